package failure

// Codes, grouped by the exit status that they have when nothing was changed. After a change the status is 7 or 8 and
// the code stays.
const (
	Internal Code = "internal"

	Usage         Code = "usage"
	InvalidToken  Code = "invalid_token"
	InvalidConfig Code = "invalid_config"

	PreflightFailed Code = "preflight_failed"
	NotRoot         Code = "not_root"
	NoSystemd       Code = "no_systemd"
	DockerAbsent    Code = "docker_absent"
	DockerDown      Code = "docker_down"
	DockerVersion   Code = "docker_version"
	PackagesLocked  Code = "packages_locked"
	PackagesBroken  Code = "packages_broken"
	PackageHeld     Code = "package_held"
	DiskFull        Code = "disk_full"
	ReadOnly        Code = "read_only"
	ForeignProfile  Code = "foreign_credentials"
	GPUUnusable     Code = "gpu_unusable"

	NameUnresolved      Code = "name_unresolved"
	EndpointUnreachable Code = "endpoint_unreachable"
	PortTaken           Code = "port_taken"
	ToolMissing         Code = "tool_missing"

	ActivationInvalid  Code = "activation_invalid"
	ActivationExpired  Code = "activation_expired"
	ActivationUsedUp   Code = "activation_used_up"
	AccessDenied       Code = "access_denied"
	CredentialsInvalid Code = "credentials_invalid"
	CredentialsExpired Code = "credentials_expired"
	ClockSkew          Code = "clock_skew"
	ClusterNotFound    Code = "cluster_not_found"
	RoleUnusable       Code = "role_unusable"
	NodeUnknown        Code = "node_unknown"
	FingerprintChanged Code = "fingerprint_mismatch"
	RegistrationDenied Code = "registration_rejected"

	Network          Code = "network"
	TLSUntrusted     Code = "tls_untrusted"
	Throttled        Code = "throttled"
	AWSUnavailable   Code = "aws_unavailable"
	ConnectTimeout   Code = "connect_timeout"
	NotConfirmed     Code = "not_confirmed"
	ArtifactMissing  Code = "artifact_missing"
	ArtifactDownload Code = "artifact_download"

	ArtifactUnsigned Code = "artifact_unsigned"
	ArtifactCorrupt  Code = "artifact_corrupt"
	ArtifactKey      Code = "artifact_wrong_key"

	UnsupportedOS   Code = "unsupported_os"
	UnsupportedArch Code = "unsupported_arch"
	NotBuilt        Code = "not_built"

	SnapAgent          Code = "snap_agent"
	InstanceInactive   Code = "instance_inactive"
	TasksRunning       Code = "tasks_running"
	DrainTimeout       Code = "drain_timeout"
	RegisteredElsewere Code = "registered_elsewhere"
	IdentityUnknown    Code = "identity_unknown"
	UnprovenTarget     Code = "unproven_target"
	ClusterMismatch    Code = "cluster_mismatch"
	VersionManaged     Code = "version_is_upgrades"
	KnownBadVersion    Code = "known_bad_version"
	Unfinished         Code = "operation_unfinished"
	NothingToRollBack  Code = "nothing_to_roll_back"
	JournalUnreadable  Code = "journal_unreadable"
	NewerRecord        Code = "newer_record"
	NoInstance         Code = "no_instance"
	NoWayBack          Code = "no_way_back"
	DowngradeRefused   Code = "downgrade_refused"
	UnsafePath         Code = "unsafe_path"
	SSMSession         Code = "ssm_session"
	LiveInstance       Code = "live_instance"
	Declined           Code = "declined"
	StillThere         Code = "still_there"
	RecordUnreadable   Code = "record_unreadable"
	NotAdoptable       Code = "not_adoptable"
	AgentUnstable      Code = "agent_unstable"

	NotRegistered Code = "not_registered"

	Locked Code = "locked"

	PackageInstall Code = "package_install"
	ServiceFailed  Code = "service_failed"
	AgentConfig    Code = "agent_configuration"
	AgentCrashLoop Code = "agent_crash_loop"
	NotVerified    Code = "not_verified"
	CgroupUnusable Code = "cgroup_unusable"

	Interrupted Code = "interrupted"
	Terminated  Code = "terminated"
	Timeout     Code = "timeout"
)

// Entry is what is known about a code: its exit status when nothing was changed, its cause in a sentence, the remedy
// that is right when nobody closer to the failure knew a better one, and whether trying again unchanged may help.
type Entry struct {
	Exit      int
	Cause     string
	Remedy    string
	Retryable bool
}

// Catalogue has a row for every code. docs/errors.md is held to it by a test.
var Catalogue = map[Code]Entry{
	Internal: {ExitUnclassified, "something anywhere does not recognise went wrong", "read the log file, run the command again with -v, and report it if it stays", false},

	Usage:         {ExitUsage, "a flag, value or combination of them is wrong, or one is missing", "see anywhere COMMAND --help", false},
	InvalidToken:  {ExitUsage, "the join token is not whole: it was cut, changed or made by something else", "make a new one: anywhere activation create --cluster CLUSTER --token", false},
	InvalidConfig: {ExitUsage, "the configuration file has an unknown key or a wrong value", "correct the line that is named; anywhere config show prints what was read", false},

	PreflightFailed: {ExitPreflight, "a preflight check failed", "do what the failed check says, then run the command again", false},
	NotRoot:         {ExitPreflight, "the command changes the system and runs without root", "run it as root: sudo anywhere …", false},
	NoSystemd:       {ExitPreflight, "systemd does not manage this machine", "run anywhere on the host itself, not in a container; external instances need systemd", false},
	DockerAbsent:    {ExitPreflight, "Docker is not installed", "install Docker Engine, then run the command again", false},
	DockerDown:      {ExitPreflight, "Docker is installed and its daemon does not answer", "systemctl start docker; journalctl -u docker says why it stopped", false},
	DockerVersion:   {ExitPreflight, "Docker's API versions and the ECS agent's do not overlap", "move the side that the message names", false},
	PackagesLocked:  {ExitPreflight, "another program holds the package manager's lock", "wait until it has finished (the message names it), then run the command again", true},
	PackagesBroken:  {ExitPreflight, "the package manager was interrupted and must be repaired first", "dpkg --configure -a", false},
	PackageHeld:     {ExitPreflight, "a package that must change is held", "apt-mark unhold PACKAGE, or name its version", false},
	DiskFull:        {ExitPreflight, "there is not enough room on the disk", "free space on the file system that is named, then run the command again", false},
	ReadOnly:        {ExitPreflight, "a file or folder cannot be written", "make the path that is named writable (mount, attribute, mode), then run the command again", false},
	ForeignProfile:  {ExitPreflight, "/root/.aws/credentials holds a default profile that the SSM agent would overwrite", "let SSM Agent write a profile of its own: --ssm-profile NAME; or move that profile under another name, then run the command again", false},
	GPUUnusable:     {ExitPreflight, "GPUs are asked for, and the host lacks the driver or what gives them to containers", "install what the message names, or leave --enable-gpu out", false},

	NameUnresolved:      {ExitPreflight, "the name of an endpoint that is needed does not resolve", "correct the name servers: resolvectl status, or /etc/resolv.conf", true},
	EndpointUnreachable: {ExitPreflight, "an endpoint that is needed cannot be used from this host", "open what the message names; anywhere preflight --list-endpoints prints the whole list", true},
	PortTaken:           {ExitPreflight, "another program listens on a port of the ECS agent's", "stop the program that is named, or give it another port", false},
	ToolMissing:         {ExitPreflight, "a program is missing without which the ECS agent's service does not start", "install the package that is named, then run the command again", false},

	ActivationInvalid:  {ExitRefusedByAWS, "Systems Manager does not know this activation: wrong id, code or Region, deleted, or its slots are used up", "make a new activation in the right Region: anywhere activation create --cluster CLUSTER --token", false},
	ActivationExpired:  {ExitRefusedByAWS, "the activation has expired", "make a new activation: anywhere activation create --cluster CLUSTER --token", false},
	ActivationUsedUp:   {ExitRefusedByAWS, "all registrations of the activation are used up", "make a new activation, for more hosts with --limit: anywhere activation create --cluster CLUSTER --token", false},
	AccessDenied:       {ExitRefusedByAWS, "the role or the operator lacks a right", "attach the policy that allows the action named in the evidence to the role named there", false},
	CredentialsInvalid: {ExitRefusedByAWS, "AWS does not accept the credentials", "see the evidence for which; for the node's own, systemctl restart amazon-ssm-agent renews them", false},
	CredentialsExpired: {ExitRefusedByAWS, "the credentials have expired", "systemctl restart amazon-ssm-agent, and check the clock", false},
	ClockSkew:          {ExitRefusedByAWS, "this machine's clock is wrong, so AWS refuses its signatures", "set the clock: timedatectl set-ntp true", false},
	ClusterNotFound:    {ExitRefusedByAWS, "the cluster does not exist in this account and Region, or is inactive", "create it, or name the right one: aws ecs list-clusters", false},
	RoleUnusable:       {ExitRefusedByAWS, "the IAM role for the hosts does not exist, or Systems Manager may not assume it", "create the role, or let ssm.amazonaws.com assume it: aws iam get-role --role-name ROLE shows its trust policy", false},
	NodeUnknown:        {ExitRefused, "Systems Manager no longer knows this managed node: it was deregistered", "register it anew with a new activation and --accept-risk replace-identity", false},
	FingerprintChanged: {ExitRefused, "the machine's fingerprint is not the registered one: a clone, or changed hardware", "register it anew with a new activation and --accept-risk replace-identity", false},
	RegistrationDenied: {ExitRefusedByAWS, "ECS refused to register the instance", "the evidence has ECS's own words", false},

	Network:          {ExitNetwork, "a host could not be reached", "check DNS, proxy and firewall for the name in the evidence, then run the command again", true},
	TLSUntrusted:     {ExitNetwork, "the certificate of a host is not trusted here", "add the certificate authority to the system's store, or see to the proxy that breaks the connection open", false},
	Throttled:        {ExitNetwork, "AWS asked to slow down", "wait a minute, then run the command again", true},
	AWSUnavailable:   {ExitNetwork, "AWS answered with a server error", "run the command again", true},
	ConnectTimeout:   {ExitNetwork, "the ECS agent did not register in time", "run the same command again; it goes on where it was", true},
	StillThere:       {ExitNetwork, "the deregistration was made, and ECS or Systems Manager still showed the host when waiting ended", "run the same command again; nothing is left to do on the host", true},
	NotConfirmed:     {ExitNetwork, "the ECS agent has registered, and ECS or Systems Manager did not show it connected in time", "run the same command again; nothing was undone", true},
	ArtifactMissing:  {ExitNetwork, "an artifact is not where it should be", "check the version and the Region, or the --artifacts location", false},
	ArtifactDownload: {ExitNetwork, "an artifact could not be downloaded whole", "run the command again; what was downloaded is kept", true},

	ArtifactUnsigned: {ExitUnverified, "an artifact has no signature", "download from AWS or from a mirror that keeps the signatures", false},
	ArtifactCorrupt:  {ExitUnverified, "an artifact is not what was signed", "run the command again; if it stays, the source or a proxy changes files", false},
	ArtifactKey:      {ExitUnverified, "an artifact is signed by a key that is not pinned, or was signed when the key was not valid", "after a key rotation: a newer anywhere, or --keyring FILE with the new key", false},

	UnsupportedOS:   {ExitUnsupported, "this operating system cannot become an ECS external instance", "anywhere platforms lists those that can", false},
	UnsupportedArch: {ExitUnsupported, "ECS Anywhere exists for x86_64 and arm64 only", "use a 64-bit machine with a 64-bit system", false},
	NotBuilt:        {ExitUnsupported, "anywhere does not do this on this platform yet", "anywhere platforms says what works", false},

	SnapAgent:          {ExitRefused, "the SSM agent's snap cannot be worked with: it is disabled, broken or from a file, or the package of the same agent stands beside it", "the message says which; snap list amazon-ssm-agent", false},
	InstanceInactive:   {ExitRefused, "ECS has deregistered this instance and its state is still on the host", "stop ecs, move /var/lib/ecs/data/agent.db away, then run the command again", false},
	TasksRunning:       {ExitRefused, "tasks run on this host that the command would orphan", "drain the instance first, or accept it: --accept-risk running-tasks", false},
	DrainTimeout:       {ExitRefused, "tasks were left on the host when the time to drain it was over", "the message names them: stop those that belong to no service, or run the same command again with a longer --drain-timeout, or with --on-timeout force", true},
	RegisteredElsewere: {ExitRefused, "this host is registered to another cluster, account or Region", "anywhere move --cluster NEW", false},
	IdentityUnknown:    {ExitRefused, "this host has a registration whose soundness cannot be shown", "give the identity up, once you know that it does not work: the same command with a new activation and --accept-risk replace-identity", false},
	UnprovenTarget:     {ExitRefused, "nobody could show that the cluster to go to is there and ACTIVE", "name an operator's profile with --profile, or accept it: --accept-risk unproven-target", false},
	ClusterMismatch:    {ExitRefused, "the ECS agent's state belongs to another cluster", "anywhere move --cluster NEW", false},
	VersionManaged:     {ExitRefused, "another version is installed, and changing it is an upgrade", "leave the version flag out, so that what is installed stays; to change it: anywhere upgrade", false},
	KnownBadVersion:    {ExitRefused, "this version is known to be bad", "leave the version flag out, or name a better one", false},
	Unfinished:         {ExitRefused, "another operation was begun here and is not finished", "run that command again to finish it, or undo it: anywhere rollback", false},
	NothingToRollBack:  {ExitRefused, "there is no unfinished operation that could be undone", "anywhere operation show", false},
	JournalUnreadable:  {ExitRefused, "the journal of an operation cannot be read", "anywhere operation abandon moves it aside without touching the host", false},
	NewerRecord:        {ExitRefused, "this host's record was written by a newer anywhere", "use that version or a newer one", false},
	RecordUnreadable:   {ExitRefused, "this host's record of what is anywhere's own cannot be read", "mv /var/lib/anywhere/record.json /root/, then run the same command again; what was installed before counts as somebody else's then", false},
	NotAdoptable:       {ExitRefused, "there is no whole registration on this host that could be adopted", "anywhere register makes it whole; anywhere status says what is wrong", false},
	AgentUnstable:      {ExitRefused, "the ECS agent dies again and again, and the command would give up an instance that it could not get back", "anywhere doctor says why the agent dies; then run the command again", false},

	NoInstance:       {ExitRefused, "this host is no external instance, so there is nothing that the command could work on", "make it one: anywhere register --token -", false},
	NoWayBack:        {ExitRefused, "the package that is installed cannot be had any more, so an upgrade that fails could not be taken back", "bring its file with --artifacts, or accept it: --accept-risk no-way-back", false},
	DowngradeRefused: {ExitRefused, "the version that is asked for is older than the installed one", "name a newer one, or accept what an older agent may lose: --allow-downgrade", false},
	UnsafePath:       {ExitRefused, "what is to be removed lies behind a symbolic link, or something is mounted at or below it", "umount it, or remove by hand what the message names, then run the command again", false},
	SSMSession:       {ExitRefused, "the command runs in a session of Systems Manager, which ends with the managed node", "run it from another shell, keep the node with --keep-ssm, or accept it: --accept-risk lose-ssm-session", false},
	LiveInstance:     {ExitRefused, "the machine that is to be given up is still connected to AWS", "run anywhere deregister on the machine itself, or accept it: --accept-risk live-instance", false},
	Declined:         {ExitRefused, "the operator did not confirm what would be done", "run the command again, and type what it asks for", false},

	NotRegistered: {ExitUnhealthy, "this host is not an external instance", "make it one: anywhere register --token -", false},

	Locked: {ExitLocked, "another anywhere is at work on this host", "wait for it, or use --lock-timeout", true},

	PackageInstall: {ExitUnclassified, "the package manager could not install or remove a package", "mend what its own words in the evidence complain of, then run the command again", false},
	ServiceFailed:  {ExitUnclassified, "a service did not start or stop", "journalctl -u UNIT says why", false},
	AgentConfig:    {ExitPreflight, "an agent does not accept its configuration", "correct the line named in the evidence", false},
	AgentCrashLoop: {ExitUnclassified, "an agent starts and dies again and again", "its last words are in the evidence", false},
	CgroupUnusable: {ExitUnclassified, "the ECS agent cannot use the control groups, so tasks with limits fail", "anywhere preflight --only cgroup.version,cgroup.memory,cgroup.driver", false},
	NotVerified:    {ExitUnclassified, "a change was made, and the host does not show it", "the message says what was seen instead; run the same command again", true},

	Interrupted: {ExitInterrupted, "the command was interrupted", "run the same command again", true},
	Terminated:  {ExitTerminated, "the command was terminated", "run the same command again", true},
	Timeout:     {ExitInterrupted, "the command took longer than --timeout", "run the same command again, with a longer --timeout", true},
}
