package ecsagent

// Names and places of the agent, as aws/amazon-ecs-agent 1.105.1 of 2026-06-29 has them; the file of that repository is
// named with each.
const (
	// Package is the Debian and the generic RPM package (packaging/generic-deb-integrated/debian/control).
	Package = "amazon-ecs-init"
	// AmazonLinuxPackage is Amazon Linux's own package: the same files, and a unit that reads ConfigPath alone
	// (packaging/amazon-linux-ami-integrated/ecs-agent.spec).
	AmazonLinuxPackage = "ecs-init"
	// Unit is the service on every system but SUSE, where the platform's row says amazon-ecs.service
	// (packaging/generic-deb-integrated/debian/ecs.service).
	Unit = "ecs.service"
	// VolumePlugin and VolumePluginSocket come with the package; nothing enables them but an administrator who uses EFS
	// (packaging/generic-deb-integrated/debian/rules).
	VolumePlugin       = "amazon-ecs-volume-plugin.service"
	VolumePluginSocket = "amazon-ecs-volume-plugin.socket"
	// InitBinary is ecs-init (packaging/generic-deb-integrated/debian/amazon-ecs-init.install).
	InitBinary = "/usr/libexec/amazon-ecs-init"

	// ConfigPath is the operator's settings; what stands here beats InstanceConfigPath (ecs-init/config/common.go).
	ConfigPath = "/etc/ecs/ecs.config"
	// JSONConfigPath is the agent's second source of settings, below its environment (ecs-init/docker/docker.go).
	JSONConfigPath = "/etc/ecs/ecs.config.json"
	// InstanceConfigPath is read before ConfigPath. AWS's install script writes ECS_EXTERNAL and the Region here
	// (ecs-init/config/common.go, scripts/ecs-anywhere-install.sh).
	InstanceConfigPath = "/var/lib/ecs/ecs.config"

	// DataDir holds the agent's state and other programs' (EFS mounts, firelens): never remove it as a whole
	// (agent/data/client.go).
	DataDir = "/var/lib/ecs/data"
	// StateDB is what binds the host to a container instance: a BoltDB that the running agent keeps locked
	// (agent/data/client.go).
	StateDB = DataDir + "/agent.db"
	// LegacyState was the state of agents up to 1.43, read when StateDB has no version in it (agent/app/data.go).
	LegacyState = DataDir + "/ecs_agent_data.json"

	// LogDir holds the logs of agent, ecs-init and ECS Exec (ecs-init/config/common.go).
	LogDir = "/var/log/ecs"
	// LogPath is the agent's log (ecs-init/docker/docker.go, ECS_LOGFILE).
	LogPath = LogDir + "/ecs-agent.log"
	// InitLogPath is ecs-init's log; the journal of Unit has the same lines (ecs-init/config/common.go).
	InitLogPath = LogDir + "/ecs-init.log"

	// ExecDir holds what ECS Exec needs; the container sees it as /managed-agents/execute-command
	// (agent/app/agent_capability_unix.go).
	ExecDir = "/var/lib/ecs/deps/execute-command"

	// CacheDir holds the image that the package brings (ecs-init/config/common.go).
	CacheDir = "/var/cache/ecs"
	// CacheState says what pre-start does with the image: 2 load it again, 1 load it when Docker has none, 0 or missing
	// download it (ecs-init/cache/cache.go).
	CacheState = CacheDir + "/state"
	// CachedImage is a symbolic link to the package's image (packaging/generic-deb-integrated/debian/rules).
	CachedImage = CacheDir + "/ecs-agent.tar"
	// Image is the agent's image in Docker, always under this tag (ecs-init/config/common.go).
	Image = "amazon/amazon-ecs-agent:latest"
	// PauseImage is what the agent makes tasks' networks with; it loads it itself (agent/eni/pause).
	PauseImage = "amazon/amazon-ecs-pause:0.1.0"
	// Container is the agent's container (ecs-init/config/common.go).
	Container = "ecs-agent"

	// TaskLabel is on every container of a task (agent/engine/docker_task_engine.go).
	TaskLabel = "com.amazonaws.ecs.task-arn"

	// DropInPath is anywhere's own addition to the unit.
	DropInPath = "/etc/systemd/system/ecs.service.d/50-anywhere.conf"
)

// Settings that anywhere writes or judges; the known ones are in Settings.
const (
	KeyCluster           = "ECS_CLUSTER"
	KeyExternal          = "ECS_EXTERNAL"
	KeyRegion            = "AWS_DEFAULT_REGION"
	KeyEndpoint          = "ECS_BACKEND_HOST"
	KeyAttributes        = "ECS_INSTANCE_ATTRIBUTES"
	KeyTags              = "ECS_CONTAINER_INSTANCE_TAGS"
	KeyProfile           = "ECS_ALTERNATE_CREDENTIAL_PROFILE"
	KeyGPU               = "ECS_ENABLE_GPU_SUPPORT"
	KeyIPMode            = "ECS_INSTANCE_IP_COMPATIBILITY"
	KeyNoMetadata        = "AWS_EC2_METADATA_DISABLED"
	KeyPropagateTagsFrom = "ECS_CONTAINER_INSTANCE_PROPAGATE_TAGS_FROM"
)

// OwnImage reports whether an image of that name is there for the agent, and not for anybody's tasks.
func OwnImage(name string) bool { return name == Image || name == PauseImage }
