package ecsagent

import (
	"cmp"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Failure is something that the agent's or ecs-init's log is known to say when a host does not work.
type Failure struct {
	Texts  []string // a line that has all of them, in any order, is this failure
	Not    []string // but not one that has one of these
	Code   failure.Code
	Cause  string
	Remedy string // empty means the code's own
	// Terminal: waiting longer cannot help. With Settle it is so only once the failure has gone on for that long, for it may
	// be the start's: Systems Manager has not written the credentials yet, a new role is not known everywhere yet.
	Terminal bool
	Settle   time.Duration
	// Symptom: it says that something failed, not why. Others come before it.
	Symptom bool
	Over    []string // a later line that has one of them shows that it is over
	Since   string   // first version that says so; empty when it is not known
	Until   string   // last one; empty when it still does
	Source  string
	Sample  string // such a line's message, as the program writes it
	File    string // the log that has it; empty is LogPath
	// Fix is the safe remedy that doctor can apply by itself; empty when there is none (lifecycle.Fixes).
	Fix string
}

// Log is the log that has such a line.
func (f Failure) Log() string { return cmp.Or(f.File, LogPath) }

// Lines that show success.
const (
	saysCredentials = "Successfully got ECS instance credentials"
	saysRegistered  = "Registered container instance with cluster!"
	saysCompleted   = "Instance registration completed successfully"
	saysConnected   = "Connected to ACS endpoint"
)

var (
	overRegistered = []string{saysRegistered, saysCompleted, saysConnected}
	overConnected  = []string{saysConnected}
)

// Where rows come from.
const (
	sourceRun    = "seen with the real agent 1.105.1 on 2026-11-22"
	sourceAgent  = "aws/amazon-ecs-agent 1.105.1, agent/app/agent.go and ecs-agent/api/ecs/client/ecs_client.go"
	sourceInit   = "aws/amazon-ecs-agent 1.105.1, ecs-init/engine/engine.go and ecs-init/docker/docker.go"
	sourceConfig = "aws/amazon-ecs-agent 1.105.1, agent/config/config.go; " + sourceRun
)

// refusedRegistration is how the agent's log begins to tell that ECS refused its registration.
const refusedRegistration = "operation error ECS: RegisterContainerInstance, https response error StatusCode: 400, " +
	"RequestID: 0f, api error "

const (
	remedyRole = "attach the managed policy AmazonEC2ContainerServiceforEC2Role to the role named in the evidence: " +
		"the role of this node's activation"
	remedyExternal  = "write exactly ECS_EXTERNAL=true, unquoted, to " + ConfigPath + "; then systemctl restart ecs"
	remedyReachable = "check DNS, proxy and firewall for the host in the evidence"
	remedyInactive  = "anywhere register again: it starts anew with a new container instance"
	remedySSM       = "systemctl restart amazon-ssm-agent; /root/.aws/credentials must then have a fresh profile"
)

// Failures are known, the particular before the general: a line is the first row that it fits.
var Failures = []Failure{
	// The agent works, and cannot say so: who asks its port gets no answer. It tries again, at most a minute later.
	{Texts: []string{"Error running introspection endpoint", "address already in use"}, Code: failure.PortTaken,
		Cause:  "another program has port 51678, on which the ECS agent answers",
		Remedy: "ss -tnpa 'sport = :51678' names it; the agent takes the port within a minute of its end",
		Over:   overRegistered, Source: "aws/amazon-ecs-agent 1.105.1, agent/handlers/introspection_server_setup.go",
		Sample: "Error running introspection endpoint: listen tcp :51678: bind: address already in use"},
	// AWS refuses the registration.
	{Texts: []string{"identity document and identity document signature were not valid"},
		Code: failure.CredentialsInvalid, Terminal: true,
		Cause: "the agent used the credentials of an EC2 role, not those of Systems Manager",
		Remedy: "check /root/.aws/credentials; set AWS_EC2_METADATA_DISABLED=true in " + ConfigPath + "; the agent " +
			"must be 1.100.0 or newer",
		Over: overRegistered, Source: "aws/amazon-ecs-agent issue 3604",
		Sample: refusedRegistration + "ClientException: The identity document and identity document signature were " +
			"not valid."},
	{Texts: []string{"AccessDeniedException", "ecs:CreateCluster"}, Code: failure.ClusterNotFound, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "ECS_CLUSTER is empty, the cluster default does not exist, and the node's role may not create it",
		Remedy: "name the cluster: --cluster NAME", Over: overRegistered, Source: sourceAgent,
		Sample: `operation error ECS: CreateCluster, api error AccessDeniedException: User: arn:aws:sts::1:assumed-role/r/mi-0 is not authorized to perform: ecs:CreateCluster`},
	{Texts: []string{"AccessDeniedException", "ecs:RegisterContainerInstance"}, Code: failure.AccessDenied,
		Terminal: true, Settle: 5 * time.Second,
		Cause:  "the node's role lacks the right ecs:RegisterContainerInstance",
		Remedy: remedyRole, Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "AccessDeniedException: User: arn:aws:sts::1:assumed-role/r/mi-0 is not " +
			"authorized to perform: ecs:RegisterContainerInstance"},
	{Texts: []string{"AccessDeniedException", "RegisterContainerInstance"}, Code: failure.AccessDenied, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "the node's role may not register container instances",
		Remedy: remedyRole, Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "AccessDeniedException: no"},
	{Texts: []string{"AccessDeniedException", "is not authorized to perform: ecs:"}, Code: failure.AccessDenied,
		Cause:  "the node's role lacks a right that the evidence names",
		Remedy: remedyRole, Over: overConnected, Source: "aws/amazon-ecs-agent issue 3812",
		Sample: "api error AccessDeniedException: x is not authorized to perform: ecs:DiscoverPollEndpoint"},
	{Texts: []string{"InvalidSignatureException", "Signature expired"}, Code: failure.ClockSkew, Terminal: true,
		Cause: "this machine's clock is behind", Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "InvalidSignatureException: Signature expired: 20261122T080000Z is now " +
			"earlier than 20261122T085500Z"},
	{Texts: []string{"InvalidSignatureException", "Signature not yet current"}, Code: failure.ClockSkew, Terminal: true,
		Cause: "this machine's clock is ahead", Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "InvalidSignatureException: Signature not yet current: 20261122T100000Z is " +
			"still later than 20261122T090500Z"},
	{Texts: []string{"InvalidSignatureException"}, Code: failure.CredentialsInvalid, Terminal: true,
		Cause:  "ECS does not accept the agent's signature: wrong clock, damaged keys, or a proxy that changes requests",
		Remedy: "timedatectl shows the clock; " + remedySSM, Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "InvalidSignatureException: The request signature we calculated does not match"},
	{Texts: []string{"ExpiredTokenException"}, Code: failure.CredentialsExpired, Terminal: true,
		Settle: 5 * time.Second,
		Cause: "the credentials that the agent uses have expired: Systems Manager's agent does not renew them, or " +
			"the clock is wrong",
		Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "ExpiredTokenException: The security token included in the request is expired"},
	{Texts: []string{"UnrecognizedClientException"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "AWS does not know the credentials that the agent uses",
		Remedy: remedySSM + "; nothing else may stand in its profile", Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "UnrecognizedClientException: The security token included in the request is " +
			"invalid."},
	{Texts: []string{"Cluster not found."}, Code: failure.ClusterNotFound, Terminal: true,
		Cause: "the cluster does not exist in this account and Region", Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "ClientException: Cluster not found."},
	{Texts: []string{"ClusterNotFoundException"}, Code: failure.ClusterNotFound, Terminal: true,
		Cause: "the cluster does not exist in this account and Region, or is inactive", Over: overRegistered,
		Source: sourceRun,
		Sample: refusedRegistration + "ClusterNotFoundException: Cluster was not found"},
	{Texts: []string{"InvalidClusterException"}, Code: failure.ClusterNotFound,
		Cause: "ECS no longer has the cluster", Over: overConnected,
		Source: "aws/amazon-ecs-agent 1.105.1, ecs-agent/acs/session/session.go",
		Sample: "Failed to connect to ACS: InvalidClusterException: Cluster is gone"},
	{Texts: []string{"Cluster is inactive"}, Code: failure.ClusterNotFound, Terminal: true,
		Cause: "the cluster is INACTIVE: it has been deleted", Over: overRegistered, Source: sourceAgent,
		Sample: refusedRegistration + "ClientException: Cluster is inactive."},
	{Texts: []string{"ontainer instance", "is inactive"}, Code: failure.InstanceInactive, Terminal: true,
		Cause:  "ECS has deregistered this instance; the agent's saved state still names it",
		Remedy: remedyInactive, Over: overRegistered, Source: sourceRun + "; issue 583",
		Sample: refusedRegistration + "ClientException: Container instance " +
			"arn:aws:ecs:eu-west-1:1:container-instance/prod/0 is inactive."},
	{Texts: []string{"Container instance is deregistered"}, Code: failure.InstanceInactive, Terminal: true,
		Cause:  "ECS has deregistered this instance while the agent was running",
		Remedy: remedyInactive, Over: overConnected, Source: sourceRun,
		Sample: "Container instance is deregistered"},
	{Texts: []string{"InactiveInstanceException"}, Code: failure.InstanceInactive, Terminal: true,
		Cause:  "ECS has deregistered this instance while the agent was running",
		Remedy: remedyInactive, Over: overConnected, Source: sourceRun,
		Sample: "Failed to connect to ACS: InactiveInstanceException: gone"},
	{Texts: []string{"Container instance type changes are not supported."}, Code: failure.RegistrationDenied,
		Terminal: true,
		Cause:    "the saved state belongs to an instance of another kind (EC2)",
		Remedy:   "stop ecs, move " + StateDB + " away, then run the command again", Over: overRegistered,
		Source: sourceAgent,
		Sample: refusedRegistration + "ClientException: Container instance type changes are not supported."},
	{Texts: []string{"Error registering attributes"}, Code: failure.RegistrationDenied, Terminal: true,
		Cause:  "ECS did not take the attributes that the evidence names",
		Remedy: "correct " + KeyAttributes + " in " + ConfigPath, Over: overRegistered, Source: sourceRun,
		Sample: "Error registering attributes"},
	{Texts: []string{"Attribute validation failed"}, Code: failure.RegistrationDenied, Terminal: true,
		Cause:  "ECS did not take the instance's attributes as they were sent",
		Remedy: "correct " + KeyAttributes + " in " + ConfigPath, Over: overRegistered, Source: sourceRun,
		Sample: "Attribute validation failed"},
	{Texts: []string{"registration attempt with invalid attribute(s)"}, Code: failure.RegistrationDenied,
		Terminal: true,
		Cause:    "ECS did not take the instance's attributes as they were sent",
		Remedy:   "correct " + KeyAttributes + " in " + ConfigPath, Over: overRegistered, Source: sourceRun,
		Sample: "Instance registration attempt with invalid attribute(s)"},
	{Texts: []string{"egistration attempt with an invalid parameter"}, Code: failure.RegistrationDenied, Terminal: true,
		Cause:  "ECS found a parameter of the registration invalid: a wrong cluster name or Region, a bad tag",
		Remedy: "check " + KeyCluster + ", " + KeyTags + " and " + KeyRegion, Over: overRegistered, Source: sourceRun,
		Sample: "Instance registration attempt with an invalid parameter"},
	{Texts: []string{"egistration attempt with client performing invalid action"}, Code: failure.RegistrationDenied,
		Terminal: true,
		Cause:    "ECS refused the registration; its own words are in the evidence", Over: overRegistered,
		Source: sourceRun,
		Sample: "Instance re-registration attempt with client performing invalid action"},
	{Texts: []string{"ThrottlingException"}, Code: failure.Throttled,
		Cause: "ECS asks to slow down; the agent tries again for up to an hour", Over: overRegistered,
		Source: sourceRun,
		Sample: refusedRegistration + "ThrottlingException: Rate exceeded"},
	{Texts: []string{"RegisterContainerInstance", "LimitExceededException"}, Code: failure.RegistrationDenied,
		Cause:  "the cluster has as many container instances as it can have; the agent tries again for up to an hour",
		Remedy: "deregister instances that are gone, or take another cluster", Over: overRegistered, Source: sourceAgent,
		Sample: refusedRegistration + "LimitExceededException: The limit was exceeded."},
	{Texts: []string{"RegisterContainerInstance", "ServerException"}, Code: failure.AWSUnavailable,
		Cause: "ECS has a fault; the agent tries again for up to an hour", Over: overRegistered, Source: sourceRun,
		Sample: refusedRegistration + "ServerException: internal"},

	{Texts: []string{"Received terminal error from RegisterContainerInstance call"}, Code: failure.RegistrationDenied, Symptom: true,
		Cause: "ECS refused the registration for a reason of its own; its words are in the evidence", Over: overRegistered,
		Source: sourceAgent,
		Sample: "Received terminal error from RegisterContainerInstance call, exiting"},

	// The saved state and the configuration.
	{Texts: []string{"Data mismatch; saved cluster '"}, Code: failure.ClusterMismatch, Terminal: true,
		Cause: "the agent's saved state belongs to another cluster than ECS_CLUSTER names; the two are compared " +
			"letter by letter",
		Over: overRegistered, Source: sourceRun,
		Sample: "Data mismatch; saved cluster 'demo' does not match configured cluster 'other'. Perhaps you want to " +
			"delete the configured checkpoint file?"},
	{Texts: []string{"AWS_DEFAULT_REGION has to be set when running on external capacity"}, Code: failure.AgentConfig,
		Terminal: true,
		Cause:    "the agent has no Region",
		Remedy:   "write AWS_DEFAULT_REGION=REGION to " + ConfigPath + "; then systemctl restart ecs",
		Over:     overRegistered, Source: sourceConfig,
		Sample: "AWS_DEFAULT_REGION has to be set when running on external capacity"},
	{Texts: []string{`Invalid format for "ECS_EXTERNAL"`}, Code: failure.AgentConfig, Terminal: true,
		Cause: "the agent cannot read ECS_EXTERNAL, mostly because it is quoted, and takes this machine for an EC2 " +
			"instance",
		Remedy: remedyExternal,
		Over:   overRegistered, Source: sourceConfig,
		Sample: `Invalid format for "ECS_EXTERNAL", expected a boolean`, Fix: "ecs.external"},
	{Texts: []string{"Unable to communicate with EC2 Metadata service to infer region"}, Code: failure.AgentConfig,
		Terminal: true,
		Cause:    "ECS_EXTERNAL does not reach the agent, so it takes this machine for an EC2 instance",
		Remedy:   remedyExternal,
		Over:     overRegistered, Source: sourceConfig,
		Sample: "Unable to communicate with EC2 Metadata service to infer region: timeout"},
	{Texts: []string{"Missing required fields: AWSRegion"}, Code: failure.AgentConfig, Terminal: true,
		Cause: "neither ECS_EXTERNAL nor a Region reaches the agent", Remedy: remedyExternal, Over: overRegistered,
		Source: sourceConfig,
		Sample: "Missing required fields: AWSRegion"},
	{Texts: []string{"Unable to detect VPC ID and Subnet"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "ECS_EXTERNAL does not reach the agent, so it takes this machine for an EC2 instance",
		Remedy: remedyExternal,
		Over:   overRegistered, Source: sourceConfig,
		Sample: "Unable to detect VPC ID and Subnet"},
	{Texts: []string{"Invalid logging drivers"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "ECS_AVAILABLE_LOGGING_DRIVERS has a name that the agent does not know",
		Remedy: "correct it in " + ConfigPath + "; then systemctl restart ecs", Over: overRegistered,
		Source: sourceConfig,
		Sample: "Invalid logging drivers: jsonfile"},
	{Texts: []string{"Unable to fetch host resources"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "ECS_RESERVED_MEMORY is more than the machine has, or its memory cannot be read",
		Remedy: "lower ECS_RESERVED_MEMORY in " + ConfigPath, Over: overRegistered, Source: sourceRun,
		Sample: "Unable to fetch host resources: reserved memory is higher"},
	{Texts: []string{"Error creating data client"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "the agent cannot open its state in " + DataDir + ": the folder is missing, full or read-only",
		Remedy: "mkdir -p " + DataDir + "; df " + DataDir, Over: overRegistered,
		Source: "aws/amazon-ecs-agent CHANGELOG.md, 1.100.1 of 2025-10-28",
		Sample: "Error creating data client: open /data/agent.db: no such file or directory", Fix: "ecs.folders"},
	{Texts: []string{"Error loading config"}, Code: failure.AgentConfig, Terminal: true,
		Cause: "the agent cannot read its configuration; the evidence says which setting", Over: overRegistered,
		Source: sourceConfig,
		Sample: "Error loading config: invalid character"},

	// Credentials.
	{Texts: []string{"no valid providers in chain"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent finds no credentials: Systems Manager's agent has not written /root/.aws/credentials",
		Remedy: remedySSM,
		Over:   append([]string{saysCredentials}, overRegistered...), Source: sourceRun,
		Sample: "Error getting ECS instance credentials from credentials chain: no valid providers in chain: failed " +
			"to get shared config profile, default\nno EC2 IMDS role found"},
	{Texts: []string{"failed to get shared config profile"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "/root/.aws/credentials has not the profile that the agent looks for",
		Remedy: remedySSM + "; " + KeyProfile + " must name the profile that it writes",
		Over:   append([]string{saysCredentials}, overRegistered...), Source: sourceRun,
		Sample: "failed to get shared config profile, default"},
	{Texts: []string{"no EC2 IMDS role found"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent finds no credentials", Remedy: remedySSM,
		Over: append([]string{saysCredentials}, overRegistered...), Source: sourceRun,
		Sample: "no EC2 IMDS role found, operation error ec2imds"},
	{Texts: []string{"Error getting valid credentials:"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent's credentials cannot be used", Remedy: remedySSM,
		Over: append([]string{saysCredentials}, overRegistered...), Source: sourceAgent,
		Sample: "Error getting valid credentials: oops"},

	// The network.
	{Texts: []string{"tls: failed to verify certificate: x509:"}, Code: failure.TLSUntrusted, Terminal: true,
		Settle: 5 * time.Second,
		Cause: "the agent does not trust the certificate of the host in the evidence, as with a proxy that breaks " +
			"TLS open",
		Remedy: "--ca-file FILE gives the agent the proxy's certificate authority, or let the proxy pass AWS's " +
			"hosts through",
		Over: overConnected, Source: sourceRun,
		Sample: "RegisterContainerInstance, exceeded maximum number of attempts, 3, https response error " +
			"StatusCode: 0, request send failed, tls: failed to verify certificate: x509: certificate signed by " +
			"unknown authority"},
	{Texts: []string{"server gave HTTP response to HTTPS client"}, Code: failure.AgentConfig, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  KeyEndpoint + " names a server that speaks plain HTTP, and has no http:// in front",
		Remedy: "write " + KeyEndpoint + "=http://HOST:PORT to " + ConfigPath + "; then systemctl restart ecs",
		Over:   overRegistered, Source: sourceRun,
		Sample: "RegisterContainerInstance, request send failed, http: server gave HTTP response to HTTPS client"},
	{Texts: []string{"no such host"}, Code: failure.Network,
		Cause: "a name of AWS does not resolve", Remedy: remedyReachable, Over: overConnected, Source: sourceRun,
		Sample: "RegisterContainerInstance, request send failed, dial tcp: lookup ecs.eu-west-1.amazonaws.com: no " +
			"such host"},
	{Texts: []string{"RegisterContainerInstance", "request send failed"}, Code: failure.Network,
		Cause: "the agent cannot reach ECS", Remedy: remedyReachable, Over: overRegistered, Source: sourceRun,
		Sample: "RegisterContainerInstance, exceeded maximum number of attempts, 3, https response error " +
			"StatusCode: 0, request send failed, dial tcp 10.0.0.1:443: i/o timeout"},
	{Texts: []string{"nable to discover poll endpoint"}, Code: failure.Network,
		Cause: "the agent is registered and cannot learn where to connect", Remedy: remedyReachable,
		Over: overConnected, Source: sourceRun,
		Sample: "ACS: Unable to discover poll endpoint"},
	{Texts: []string{"Failed to connect to ACS"}, Code: failure.Network,
		Cause:  "the agent is registered and cannot connect to ecs-a-*: websockets must pass the proxy",
		Remedy: remedyReachable,
		Over:   overConnected, Source: sourceRun,
		Sample: "Failed to connect to ACS"},
	{Texts: []string{"ACS WebSocket connection closed"}, Code: failure.Network, Symptom: true,
		Cause: "the agent's connection to ECS was closed and not made again", Remedy: remedyReachable,
		Over: overConnected, Source: sourceRun,
		Sample: "ACS WebSocket connection closed"},
	{Texts: []string{"ACS Connection hasn't had any activity for too long"}, Code: failure.Network, Symptom: true,
		Cause:  "the agent's connection to ECS went silent: a firewall or proxy drops idle connections",
		Remedy: remedyReachable,
		Over:   overConnected, Source: sourceRun,
		Sample: "ACS Connection hasn't had any activity for too long; closing connection"},
	{Texts: []string{"lost websocket connection with ECS Telemetry service"}, Code: failure.Network, Symptom: true,
		Cause: "the agent's connection to ecs-t-* was lost; tasks are not touched by it", Remedy: remedyReachable,
		Over: []string{"Connected to TCS endpoint"}, Source: sourceRun,
		Sample: "Error: lost websocket connection with ECS Telemetry service (TCS)"},

	// Docker and control groups.
	{Texts: []string{"is too old. Minimum supported API version is"}, Code: failure.DockerVersion, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "Docker no longer speaks the API versions of this agent",
		Remedy: "upgrade the agent: 1.81.0 or newer for Docker 25", Over: overRegistered,
		Source: "aws/amazon-ecs-agent issue 4074",
		Sample: "Error response from daemon: client version 1.21 is too old. Minimum supported API version is 1.24"},
	{Texts: []string{"client not found for docker version"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause: "the agent reaches no Docker with an API version of its own: Docker is down, or it is podman under " +
			"Docker's name",
		Remedy: "systemctl start docker; docker version must name Docker Engine", Over: overRegistered,
		Source: sourceRun + "; issue 2927",
		Sample: "DockerGoClient: Docker SDK client unable to connect to Docker daemon. Ensure Docker is running: " +
			"docker client factory: client not found for docker version: 1.21"},
	{Texts: []string{"Docker SDK client unable to connect to Docker daemon"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent does not reach Docker", Over: overRegistered, Source: sourceRun,
		Sample: "Docker SDK client unable to connect to Docker daemon."},
	{Texts: []string{"Could not create docker client with API version"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "ecs-init does not reach Docker, or has no API version in common with it", Over: overRegistered,
		Source: sourceInit,
		File:   InitLogPath, Sample: "Could not create docker client with API version 1.25"},
	{Texts: []string{"Error connecting to docker, backing off"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "ecs-init does not reach Docker", Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "Error connecting to docker, backing off for 3s"},
	{Texts: []string{"could not create docker client"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "ecs-init does not reach Docker", Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "could not create docker client"},
	{Texts: []string{"unable to create v2 manager"}, Code: failure.CgroupUnusable,
		Cause:  "AppArmor keeps the agent from systemd, which it needs for cgroup v2",
		Remedy: "install ECS agent 1.80.0 or newer", Since: "1.61.0", Until: "1.79.2",
		Source: "aws/amazon-ecs-agent issues 3227 and 3770",
		Sample: "cgroup resource: setup cgroup: cgroupv2 create: unable to create v2 manager: dial unix " +
			"/run/systemd/private: connect: no such file"},
	{Texts: []string{"Disabling TaskCPUMemLimit because"}, Code: failure.CgroupUnusable,
		Cause:  "the agent cannot use the control groups, so tasks with limits of their own are not placed here",
		Remedy: "anywhere preflight --only cgroup.version,cgroup.memory,cgroup.driver", Source: sourceAgent,
		Sample: "Disabling TaskCPUMemLimit because agent is unable to setup '/ecs' cgroup: x"},
	{Texts: []string{"cgroup resource: setup cgroup"}, Code: failure.CgroupUnusable,
		Cause: "the agent cannot make a task's control group: Docker's cgroup driver does not fit, or the memory " +
			"controller is off",
		Remedy: "anywhere preflight --only cgroup.version,cgroup.memory,cgroup.driver",
		Source: "aws/amazon-ecs-agent issues 2917 and 3834",
		Sample: "cgroup resource: setup cgroup: unable to create cgroup at /ecs/1"},
	{Texts: []string{"Agent could not create task's platform resources"}, Code: failure.CgroupUnusable,
		Cause:  "the agent cannot make a task's control group, most often because the memory controller is off",
		Remedy: "anywhere preflight --only cgroup.version,cgroup.memory,cgroup.driver",
		Source: "aws/amazon-ecs-agent issue 3834",
		Sample: "CgroupError: Agent could not create task's platform resources"},
	{Texts: []string{"Failed to load pause container"}, Code: failure.ServiceFailed,
		Cause:  "the agent could not load its pause image into Docker",
		Remedy: "df $(docker info -f '{{.DockerRootDir}}'); systemctl restart ecs", Source: sourceRun,
		Sample: "Failed to load pause container"},

	// ecs-init, before it starts the agent.
	{Texts: []string{"Error searching 'iptables' executable"}, Code: failure.ServiceFailed, Terminal: true,
		Cause: "ecs-init finds no iptables", Remedy: "install the package iptables; then systemctl restart ecs",
		Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "Error searching 'iptables' executable: exec: not found"},
	{Texts: []string{"could not enable loopback routing"}, Code: failure.ServiceFailed, Terminal: true,
		Cause: "ecs-init cannot set net.ipv4.conf.all.route_localnet: sysctl is missing, or the kernel refuses it " +
			"(in a container)",
		Remedy: "sysctl -w net.ipv4.conf.all.route_localnet=1 must work", Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "could not enable loopback routing"},
	{Texts: []string{"could not create route to the credentials proxy"}, Code: failure.ServiceFailed, Terminal: true,
		Settle: 9 * time.Second,
		Cause:  "ecs-init cannot make its iptables rules: the tables nat and filter or connection tracking are missing",
		Remedy: "iptables -t nat -L must work", Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "could not create route to the credentials proxy"},
	{Texts: []string{"error loading apparmor profile"}, Code: failure.ServiceFailed, Terminal: true,
		Settle: 9 * time.Second,
		Cause:  "ecs-init cannot load its AppArmor profile",
		Remedy: "install the package apparmor (for apparmor_parser); then systemctl restart ecs", Over: overRegistered,
		Source: sourceInit,
		File:   InitLogPath, Sample: "error loading apparmor profile ecs-agent-default"},
	{Texts: []string{"could not load Amazon Elastic Container Service Agent into Docker"}, Code: failure.ServiceFailed,
		Terminal: true, Settle: 9 * time.Second,
		Cause:  "ecs-init cannot load the agent's image into Docker: no room, or the image is damaged",
		Remedy: "df $(docker info -f '{{.DockerRootDir}}'); reinstall the package " + Package, Over: overRegistered,
		Source: sourceInit,
		File:   InitLogPath, Sample: "could not load Amazon Elastic Container Service Agent into Docker"},
	{Texts: []string{"does not match expected checksum"}, Code: failure.ArtifactCorrupt, Terminal: true,
		Settle: 9 * time.Second,
		Cause:  "the agent's image that ecs-init downloaded is damaged",
		Remedy: "reinstall the package " + Package + ", which brings the image", Over: overRegistered,
		Source: sourceInit,
		File:   InitLogPath, Sample: "downloaded agent does not match expected checksum"},
	{Texts: []string{"could not download Amazon Elastic Container Service Agent"}, Code: failure.ArtifactDownload,
		Terminal: true, Settle: 9 * time.Second,
		Cause: "the package's image is gone from " + CacheDir + ", and ecs-init cannot download another (from " +
			"us-east-1, whatever the Region)",
		Remedy: "anywhere register puts it back, from the package", Over: overRegistered,
		Source: sourceInit,
		File:   InitLogPath, Sample: "could not download Amazon Elastic Container Service Agent"},
	{Texts: []string{"Nvidia GPU Manager"}, Code: failure.AgentConfig, Terminal: true, Settle: 9 * time.Second,
		Cause:  "GPU support is on and the NVIDIA driver does not work",
		Remedy: "nvidia-smi -L must list the GPUs", Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "Nvidia GPU Manager: setup failed: NVML"},
	{Texts: []string{"No GPU devices found, ignoring the GPU support config"}, Code: failure.AgentConfig,
		Cause:  "GPU support is on and there is no /dev/nvidia*, so the instance has no GPUs in ECS",
		Remedy: "nvidia-smi -L must list the GPUs; then systemctl restart ecs", Source: sourceInit,
		File: InitLogPath, Sample: "No GPU devices found, ignoring the GPU support config"},
	{Texts: []string{"Config for GPU support is enabled, but GPU information is not found"}, Code: failure.AgentConfig,
		Cause:  "the driver was not ready when ecs was started, so the instance has no GPUs in ECS",
		Remedy: "nvidia-smi -L must list the GPUs; then systemctl restart ecs",
		Source: "aws/amazon-ecs-agent issue 3823",
		Sample: "Config for GPU support is enabled, but GPU information is not found; continuing without it"},

	{Texts: []string{"could not handle cache state"}, Code: failure.ServiceFailed, Terminal: true, Settle: 9 * time.Second,
		Cause:  CacheState + " does not hold a number that ecs-init knows, so it does not start the agent",
		Remedy: "echo 2 > " + CacheState + "; then systemctl restart ecs", Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "could not handle cache state 7", Fix: "ecs.cache"},
	{Texts: []string{"could not start Agent: Error response from daemon"}, Code: failure.ServiceFailed,
		Cause: "Docker does not start the ECS agent's container, for the reason that it names",
		Remedy: "journalctl -u docker -n 50; where SELinux is enforcing and docker info lists it: \"selinux-enabled\": false in " +
			"/etc/docker/daemon.json, then systemctl restart docker ecs", Over: overRegistered,
		Source: sourceInit + "; seen with SELinux enforcing, 2026-11-26",
		File:   InitLogPath, Sample: "could not start Agent: Error response from daemon: error creating overlay mount to " +
			"/var/lib/docker/overlay2/5e7296f23808/merged: invalid argument (HTTP 500)"},

	// The end, without its reason.
	{Texts: []string{"agent exited with terminal exit code: 5"}, Code: failure.RegistrationDenied, Terminal: true,
		Symptom: true,
		Cause:   "the agent has given up", Remedy: "docker logs ecs-agent and " + LogPath + " say why",
		Over: overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "agent exited with terminal exit code: 5"},
	{Texts: []string{"Agent will terminally exit"}, Code: failure.RegistrationDenied, Terminal: true, Symptom: true,
		Cause: "the agent has given up", Over: overRegistered, Source: sourceRun,
		Sample: "Agent will terminally exit, unable to register container instance:"},
	{Texts: []string{"Unable to initialize new task engine"}, Code: failure.AgentConfig, Terminal: true, Symptom: true,
		Cause: "the agent cannot go on from its saved state", Over: overRegistered, Source: sourceRun,
		Sample: "Unable to initialize new task engine"},
	{Texts: []string{"ECS Agent failed to start, retrying in"}, Code: failure.AgentCrashLoop, Symptom: true,
		Cause:  "the agent dies and ecs-init starts it again",
		Remedy: "docker logs ecs-agent and " + LogPath + " say why",
		Over:   overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "ECS Agent failed to start, retrying in 4.1s"},
	{Texts: []string{saysExited}, Not: []string{saysStopped, saysUpdated}, Code: failure.AgentCrashLoop, Symptom: true,
		Cause:  "the agent dies and ecs-init starts it again",
		Remedy: "docker logs ecs-agent and " + LogPath + " say why",
		Over:   overRegistered, Source: sourceInit,
		File: InitLogPath, Sample: "Agent exited with code 1"},
}
