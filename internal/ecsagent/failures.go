package ecsagent

import (
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// Failure is something that the agent's or ecs-init's log is known to say when a host does not work.
type Failure struct {
	Texts  []string // a line that has all of them, in any order, is this failure
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
}

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
	// AWS refuses the registration.
	{Texts: []string{"identity document and identity document signature were not valid"},
		Code: failure.CredentialsInvalid, Terminal: true,
		Cause:  "the agent used the credentials of an EC2 role, not those of Systems Manager",
		Remedy: "check /root/.aws/credentials; set AWS_EC2_METADATA_DISABLED=true in " + ConfigPath + "; the agent must be 1.100.0 or newer",
		Over:   overRegistered, Source: "aws/amazon-ecs-agent issue 3604"},
	{Texts: []string{"AccessDeniedException", "ecs:CreateCluster"}, Code: failure.ClusterNotFound, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "ECS_CLUSTER is empty, the cluster default does not exist, and the node's role may not create it",
		Remedy: "name the cluster: --cluster NAME", Over: overRegistered, Source: sourceAgent},
	{Texts: []string{"AccessDeniedException", "ecs:RegisterContainerInstance"}, Code: failure.AccessDenied,
		Terminal: true, Settle: 5 * time.Second,
		Cause:  "the node's role lacks the right ecs:RegisterContainerInstance",
		Remedy: remedyRole, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"AccessDeniedException", "RegisterContainerInstance"}, Code: failure.AccessDenied, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "the node's role may not register container instances",
		Remedy: remedyRole, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"AccessDeniedException", "is not authorized to perform: ecs:"}, Code: failure.AccessDenied,
		Cause:  "the node's role lacks a right that the evidence names",
		Remedy: remedyRole, Over: overConnected, Source: "aws/amazon-ecs-agent issue 3812"},
	{Texts: []string{"InvalidSignatureException", "Signature expired"}, Code: failure.ClockSkew, Terminal: true,
		Cause: "this machine's clock is behind", Over: overRegistered, Source: sourceRun},
	{Texts: []string{"InvalidSignatureException", "Signature not yet current"}, Code: failure.ClockSkew, Terminal: true,
		Cause: "this machine's clock is ahead", Over: overRegistered, Source: sourceRun},
	{Texts: []string{"InvalidSignatureException"}, Code: failure.CredentialsInvalid, Terminal: true,
		Cause:  "ECS does not accept the agent's signature: wrong clock, damaged keys, or a proxy that changes requests",
		Remedy: "timedatectl shows the clock; " + remedySSM, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"ExpiredTokenException"}, Code: failure.CredentialsExpired, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "the credentials that the agent uses have expired: Systems Manager's agent does not renew them, or the clock is wrong",
		Over:   overRegistered, Source: sourceRun},
	{Texts: []string{"UnrecognizedClientException"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "AWS does not know the credentials that the agent uses",
		Remedy: remedySSM + "; nothing else may stand in its profile", Over: overRegistered, Source: sourceRun},
	{Texts: []string{"Cluster not found."}, Code: failure.ClusterNotFound, Terminal: true,
		Cause: "the cluster does not exist in this account and Region", Over: overRegistered, Source: sourceRun},
	{Texts: []string{"ClusterNotFoundException"}, Code: failure.ClusterNotFound, Terminal: true,
		Cause: "the cluster does not exist in this account and Region, or is inactive", Over: overRegistered,
		Source: sourceRun},
	{Texts: []string{"InvalidClusterException"}, Code: failure.ClusterNotFound,
		Cause: "ECS no longer has the cluster", Over: overConnected,
		Source: "aws/amazon-ecs-agent 1.105.1, ecs-agent/acs/session/session.go"},
	{Texts: []string{"ontainer instance", "is inactive"}, Code: failure.InstanceInactive, Terminal: true,
		Cause:  "ECS has deregistered this instance; the agent's saved state still names it",
		Remedy: remedyInactive, Over: overRegistered, Source: sourceRun + "; issue 583"},
	{Texts: []string{"Container instance is deregistered"}, Code: failure.InstanceInactive, Terminal: true,
		Cause:  "ECS has deregistered this instance while the agent was running",
		Remedy: remedyInactive, Over: overConnected, Source: sourceRun},
	{Texts: []string{"InactiveInstanceException"}, Code: failure.InstanceInactive, Terminal: true,
		Cause:  "ECS has deregistered this instance while the agent was running",
		Remedy: remedyInactive, Over: overConnected, Source: sourceRun},
	{Texts: []string{"Container instance type changes are not supported."}, Code: failure.RegistrationDenied,
		Terminal: true,
		Cause:    "the saved state belongs to an instance of another kind (EC2)",
		Remedy:   "stop ecs, move " + StateDB + " away, then run the command again", Over: overRegistered,
		Source: sourceAgent},
	{Texts: []string{"Error registering attributes"}, Code: failure.RegistrationDenied, Terminal: true,
		Cause:  "ECS did not take the attributes that the evidence names",
		Remedy: "correct " + KeyAttributes + " in " + ConfigPath, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"Attribute validation failed"}, Code: failure.RegistrationDenied, Terminal: true,
		Cause:  "ECS did not take the instance's attributes as they were sent",
		Remedy: "correct " + KeyAttributes + " in " + ConfigPath, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"registration attempt with invalid attribute(s)"}, Code: failure.RegistrationDenied,
		Terminal: true,
		Cause:    "ECS did not take the instance's attributes as they were sent",
		Remedy:   "correct " + KeyAttributes + " in " + ConfigPath, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"egistration attempt with an invalid parameter"}, Code: failure.RegistrationDenied, Terminal: true,
		Cause:  "ECS found a parameter of the registration invalid: a wrong cluster name or Region, a bad tag",
		Remedy: "check " + KeyCluster + ", " + KeyTags + " and " + KeyRegion, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"egistration attempt with client performing invalid action"}, Code: failure.RegistrationDenied,
		Terminal: true,
		Cause:    "ECS refused the registration; its own words are in the evidence", Over: overRegistered,
		Source: sourceRun},
	{Texts: []string{"ThrottlingException"}, Code: failure.Throttled,
		Cause: "ECS asks to slow down; the agent tries again for up to an hour", Over: overRegistered,
		Source: sourceRun},
	{Texts: []string{"RegisterContainerInstance", "ServerException"}, Code: failure.AWSUnavailable,
		Cause: "ECS has a fault; the agent tries again for up to an hour", Over: overRegistered, Source: sourceRun},

	// The saved state and the configuration.
	{Texts: []string{"Data mismatch; saved cluster '"}, Code: failure.ClusterMismatch, Terminal: true,
		Cause: "the agent's saved state belongs to another cluster than ECS_CLUSTER names; the two are compared letter by letter",
		Over:  overRegistered, Source: sourceRun},
	{Texts: []string{"AWS_DEFAULT_REGION has to be set when running on external capacity"}, Code: failure.AgentConfig,
		Terminal: true,
		Cause:    "the agent has no Region",
		Remedy:   "write AWS_DEFAULT_REGION=REGION to " + ConfigPath + "; then systemctl restart ecs",
		Over:     overRegistered, Source: sourceConfig},
	{Texts: []string{`Invalid format for "ECS_EXTERNAL"`}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "the agent cannot read ECS_EXTERNAL, mostly because it is quoted, and takes this machine for an EC2 instance",
		Remedy: remedyExternal,
		Over:   overRegistered, Source: sourceConfig},
	{Texts: []string{"Unable to communicate with EC2 Metadata service to infer region"}, Code: failure.AgentConfig,
		Terminal: true,
		Cause:    "ECS_EXTERNAL does not reach the agent, so it takes this machine for an EC2 instance",
		Remedy:   remedyExternal,
		Over:     overRegistered, Source: sourceConfig},
	{Texts: []string{"Missing required fields: AWSRegion"}, Code: failure.AgentConfig, Terminal: true,
		Cause: "neither ECS_EXTERNAL nor a Region reaches the agent", Remedy: remedyExternal, Over: overRegistered,
		Source: sourceConfig},
	{Texts: []string{"Unable to detect VPC ID and Subnet"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "ECS_EXTERNAL does not reach the agent, so it takes this machine for an EC2 instance",
		Remedy: remedyExternal,
		Over:   overRegistered, Source: sourceConfig},
	{Texts: []string{"Invalid logging drivers"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "ECS_AVAILABLE_LOGGING_DRIVERS has a name that the agent does not know",
		Remedy: "correct it in " + ConfigPath + "; then systemctl restart ecs", Over: overRegistered,
		Source: sourceConfig},
	{Texts: []string{"Unable to fetch host resources"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "ECS_RESERVED_MEMORY is more than the machine has, or its memory cannot be read",
		Remedy: "lower ECS_RESERVED_MEMORY in " + ConfigPath, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"Error creating data client"}, Code: failure.AgentConfig, Terminal: true,
		Cause:  "the agent cannot open its state in " + DataDir + ": the folder is missing, full or read-only",
		Remedy: "mkdir -p " + DataDir + "; df " + DataDir, Over: overRegistered,
		Source: "aws/amazon-ecs-agent CHANGELOG.md, 1.100.1 of 2025-10-28"},
	{Texts: []string{"Error loading config"}, Code: failure.AgentConfig, Terminal: true,
		Cause: "the agent cannot read its configuration; the evidence says which setting", Over: overRegistered,
		Source: sourceConfig},

	// Credentials.
	{Texts: []string{"no valid providers in chain"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent finds no credentials: Systems Manager's agent has not written /root/.aws/credentials",
		Remedy: remedySSM,
		Over:   append([]string{saysCredentials}, overRegistered...), Source: sourceRun},
	{Texts: []string{"failed to get shared config profile"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "/root/.aws/credentials has not the profile that the agent looks for",
		Remedy: remedySSM + "; " + KeyProfile + " must name the profile that it writes",
		Over:   append([]string{saysCredentials}, overRegistered...), Source: sourceRun},
	{Texts: []string{"no EC2 IMDS role found"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent finds no credentials", Remedy: remedySSM,
		Over: append([]string{saysCredentials}, overRegistered...), Source: sourceRun},
	{Texts: []string{"Error getting valid credentials:"}, Code: failure.CredentialsInvalid, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent's credentials cannot be used", Remedy: remedySSM,
		Over: append([]string{saysCredentials}, overRegistered...), Source: sourceAgent},

	// The network.
	{Texts: []string{"tls: failed to verify certificate: x509:"}, Code: failure.TLSUntrusted, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "the agent does not trust the certificate of the host in the evidence, as with a proxy that breaks TLS open",
		Remedy: "--ca-file FILE gives the agent the proxy's certificate authority, or let the proxy pass AWS's hosts through",
		Over:   overConnected, Source: sourceRun},
	{Texts: []string{"no such host"}, Code: failure.Network,
		Cause: "a name of AWS does not resolve", Remedy: remedyReachable, Over: overConnected, Source: sourceRun},
	{Texts: []string{"RegisterContainerInstance", "request send failed"}, Code: failure.Network,
		Cause: "the agent cannot reach ECS", Remedy: remedyReachable, Over: overRegistered, Source: sourceRun},
	{Texts: []string{"nable to discover poll endpoint"}, Code: failure.Network,
		Cause: "the agent is registered and cannot learn where to connect", Remedy: remedyReachable,
		Over: overConnected, Source: sourceRun},
	{Texts: []string{"Failed to connect to ACS"}, Code: failure.Network,
		Cause:  "the agent is registered and cannot connect to ecs-a-*: websockets must pass the proxy",
		Remedy: remedyReachable,
		Over:   overConnected, Source: sourceRun},
	{Texts: []string{"ACS WebSocket connection closed"}, Code: failure.Network, Symptom: true,
		Cause: "the agent's connection to ECS was closed and not made again", Remedy: remedyReachable,
		Over: overConnected, Source: sourceRun},
	{Texts: []string{"ACS Connection hasn't had any activity for too long"}, Code: failure.Network, Symptom: true,
		Cause:  "the agent's connection to ECS went silent: a firewall or proxy drops idle connections",
		Remedy: remedyReachable,
		Over:   overConnected, Source: sourceRun},
	{Texts: []string{"lost websocket connection with ECS Telemetry service"}, Code: failure.Network, Symptom: true,
		Cause: "the agent's connection to ecs-t-* was lost; tasks are not touched by it", Remedy: remedyReachable,
		Over: []string{"Connected to TCS endpoint"}, Source: sourceRun},

	// Docker and control groups.
	{Texts: []string{"is too old. Minimum supported API version is"}, Code: failure.DockerVersion, Terminal: true,
		Settle: 5 * time.Second,
		Cause:  "Docker no longer speaks the API versions of this agent",
		Remedy: "upgrade the agent: 1.81.0 or newer for Docker 25", Over: overRegistered,
		Source: "aws/amazon-ecs-agent issue 4074"},
	{Texts: []string{"client not found for docker version"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent reaches no Docker with an API version of its own: Docker is down, or it is podman under Docker's name",
		Remedy: "systemctl start docker; docker version must name Docker Engine", Over: overRegistered,
		Source: sourceRun + "; issue 2927"},
	{Texts: []string{"Docker SDK client unable to connect to Docker daemon"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "the agent does not reach Docker", Over: overRegistered, Source: sourceRun},
	{Texts: []string{"Could not create docker client with API version"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "ecs-init does not reach Docker, or has no API version in common with it", Over: overRegistered,
		Source: sourceInit},
	{Texts: []string{"Error connecting to docker, backing off"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "ecs-init does not reach Docker", Over: overRegistered, Source: sourceInit},
	{Texts: []string{"could not create docker client"}, Code: failure.DockerDown, Terminal: true,
		Settle: 20 * time.Second,
		Cause:  "ecs-init does not reach Docker", Over: overRegistered, Source: sourceInit},
	{Texts: []string{"unable to create v2 manager"}, Code: failure.CgroupUnusable,
		Cause:  "AppArmor keeps the agent from systemd, which it needs for cgroup v2",
		Remedy: "install ECS agent 1.80.0 or newer", Since: "1.61.0", Until: "1.79.2",
		Source: "aws/amazon-ecs-agent issues 3227 and 3770"},
	{Texts: []string{"Disabling TaskCPUMemLimit because"}, Code: failure.CgroupUnusable,
		Cause:  "the agent cannot use the control groups, so tasks with limits of their own are not placed here",
		Remedy: "anywhere preflight --only cgroup.version,cgroup.memory,cgroup.driver", Source: sourceAgent},
	{Texts: []string{"cgroup resource: setup cgroup"}, Code: failure.CgroupUnusable,
		Cause:  "the agent cannot make a task's control group: Docker's cgroup driver does not fit, or the memory controller is off",
		Remedy: "anywhere preflight --only cgroup.version,cgroup.memory,cgroup.driver",
		Source: "aws/amazon-ecs-agent issues 2917 and 3834"},
	{Texts: []string{"Failed to load pause container"}, Code: failure.ServiceFailed,
		Cause:  "the agent could not load its pause image into Docker",
		Remedy: "df $(docker info -f '{{.DockerRootDir}}'); systemctl restart ecs", Source: sourceRun},

	// ecs-init, before it starts the agent.
	{Texts: []string{"Error searching 'iptables' executable"}, Code: failure.ServiceFailed, Terminal: true,
		Cause: "ecs-init finds no iptables", Remedy: "install the package iptables; then systemctl restart ecs",
		Over: overRegistered, Source: sourceInit},
	{Texts: []string{"could not enable loopback routing"}, Code: failure.ServiceFailed, Terminal: true,
		Cause:  "ecs-init cannot set net.ipv4.conf.all.route_localnet: sysctl is missing, or the kernel refuses it (in a container)",
		Remedy: "sysctl -w net.ipv4.conf.all.route_localnet=1 must work", Over: overRegistered, Source: sourceInit},
	{Texts: []string{"could not create route to the credentials proxy"}, Code: failure.ServiceFailed, Terminal: true,
		Settle: 9 * time.Second,
		Cause:  "ecs-init cannot make its iptables rules: the tables nat and filter or connection tracking are missing",
		Remedy: "iptables -t nat -L must work", Over: overRegistered, Source: sourceInit},
	{Texts: []string{"error loading apparmor profile"}, Code: failure.ServiceFailed, Terminal: true,
		Settle: 9 * time.Second,
		Cause:  "ecs-init cannot load its AppArmor profile",
		Remedy: "install the package apparmor (for apparmor_parser); then systemctl restart ecs", Over: overRegistered,
		Source: sourceInit},
	{Texts: []string{"could not load Amazon Elastic Container Service Agent into Docker"}, Code: failure.ServiceFailed,
		Terminal: true, Settle: 9 * time.Second,
		Cause:  "ecs-init cannot load the agent's image into Docker: no room, or the image is damaged",
		Remedy: "df $(docker info -f '{{.DockerRootDir}}'); reinstall the package " + Package, Over: overRegistered,
		Source: sourceInit},
	{Texts: []string{"does not match expected checksum"}, Code: failure.ArtifactCorrupt, Terminal: true,
		Settle: 9 * time.Second,
		Cause:  "the agent's image that ecs-init downloaded is damaged",
		Remedy: "reinstall the package " + Package + ", which brings the image", Over: overRegistered,
		Source: sourceInit},
	{Texts: []string{"could not download Amazon Elastic Container Service Agent"}, Code: failure.ArtifactDownload,
		Terminal: true, Settle: 9 * time.Second,
		Cause:  "the package's image is gone from " + CacheDir + ", and ecs-init cannot download another (from us-east-1, whatever the Region)",
		Remedy: "reinstall the package " + Package + ", which brings the image", Over: overRegistered,
		Source: sourceInit},
	{Texts: []string{"Nvidia GPU Manager"}, Code: failure.AgentConfig, Terminal: true, Settle: 9 * time.Second,
		Cause:  "GPU support is on and the NVIDIA driver does not work",
		Remedy: "nvidia-smi -L must list the GPUs", Over: overRegistered, Source: sourceInit},
	{Texts: []string{"No GPU devices found, ignoring the GPU support config"}, Code: failure.AgentConfig,
		Cause:  "GPU support is on and there is no /dev/nvidia*, so the instance has no GPUs in ECS",
		Remedy: "nvidia-smi -L must list the GPUs; then systemctl restart ecs", Source: sourceInit},
	{Texts: []string{"Config for GPU support is enabled, but GPU information is not found"}, Code: failure.AgentConfig,
		Cause:  "the driver was not ready when ecs was started, so the instance has no GPUs in ECS",
		Remedy: "nvidia-smi -L must list the GPUs; then systemctl restart ecs",
		Source: "aws/amazon-ecs-agent issue 3823"},

	// The end, without its reason.
	{Texts: []string{"agent exited with terminal exit code: 5"}, Code: failure.RegistrationDenied, Terminal: true,
		Symptom: true,
		Cause:   "the agent has given up", Remedy: "docker logs ecs-agent and " + LogPath + " say why",
		Over: overRegistered, Source: sourceInit},
	{Texts: []string{"Agent will terminally exit"}, Code: failure.RegistrationDenied, Terminal: true, Symptom: true,
		Cause: "the agent has given up", Over: overRegistered, Source: sourceRun},
	{Texts: []string{"Unable to initialize new task engine"}, Code: failure.AgentConfig, Terminal: true, Symptom: true,
		Cause: "the agent cannot go on from its saved state", Over: overRegistered, Source: sourceRun},
	{Texts: []string{"ECS Agent failed to start, retrying in"}, Code: failure.AgentCrashLoop, Symptom: true,
		Cause:  "the agent dies and ecs-init starts it again",
		Remedy: "docker logs ecs-agent and " + LogPath + " say why",
		Over:   overRegistered, Source: sourceInit},
	{Texts: []string{"Agent exited with code"}, Code: failure.AgentCrashLoop, Symptom: true,
		Cause:  "the agent dies and ecs-init starts it again",
		Remedy: "docker logs ecs-agent and " + LogPath + " say why",
		Over:   overRegistered, Source: sourceInit},
}
