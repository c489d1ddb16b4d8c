package ssmagent

// Names of the agent. Source: aws/amazon-ssm-agent 3.3.987.0, packaging/ and Tools/src (read 2026-11-22).
const (
	// Package is the name of the deb, the rpm and the snap.
	Package = "amazon-ssm-agent"
	// UnitName is the unit that the deb and the rpm bring.
	UnitName = "amazon-ssm-agent.service"
	// SnapUnit is the unit that snapd makes of Ubuntu's snap.
	SnapUnit = "snap.amazon-ssm-agent.amazon-ssm-agent.service"
	// Binary is the agent of the deb and the rpm; it is also what registers.
	Binary = "/usr/bin/amazon-ssm-agent"
)

// Paths on Linux; deb, rpm and the (classic) snap share them. Source: agent/appconfig/constants_unix.go,
// agent/managedInstances/vault/fsvault/fsvault.go and common/runtimeconfig of the same revision.
const (
	// ConfigPath is made by administrators; packages ship only amazon-ssm-agent.json.template.
	ConfigPath = "/etc/amazon/ssm/amazon-ssm-agent.json"
	// DataDir holds everything that the agent remembers; it stays when the package is purged.
	DataDir = "/var/lib/amazon/ssm"
	// LogDir holds the logs, 0700.
	LogDir = "/var/log/amazon/ssm"
	// LogPath is the log of core agent and worker, rotated at 30 MB.
	LogPath = LogDir + "/amazon-ssm-agent.log"
	// ErrorLogPath has the ERROR and CRITICAL lines of LogPath again, with function and line.
	ErrorLogPath = LogDir + "/errors.log"

	// VaultDir and StoreDir have mode 0600: only root can enter them.
	VaultDir = DataDir + "/Vault"
	// StoreDir holds the vault's values, one file each.
	StoreDir = VaultDir + "/Store"
	// ManifestPath maps a value's name to its file; a file without its entry is invisible to the agent.
	ManifestPath = VaultDir + "/Manifest"
	// KeyPath holds the managed node's id, Region and private key: the identity.
	KeyPath = StoreDir + "/RegistrationKey"
	// FingerprintPath holds the fingerprint and what of the hardware it was made from.
	FingerprintPath = StoreDir + "/InstanceFingerprint"
	// RegistrationPath, the side file, repeats id and Region for others to read. It is not the truth: neither
	// "-register -clear" nor a failed registration clears it.
	RegistrationPath = DataDir + "/registration"
	// RuntimePath tells where the credentials were written and when they expire. Agents after 3.1.282 write it.
	RuntimePath = DataDir + "/runtimeconfig/identity_config.json"

	// CredentialsPath is where the agent's unit shares its credentials: systemd gives it no HOME, so root's home is
	// taken from the user database. Source: agent/managedInstances/sharedCredentials.
	CredentialsPath = "/root/.aws/credentials"
	// DefaultProfile is the section of CredentialsPath that is written unless Profile.ShareProfile names another.
	DefaultProfile = "default"

	// MachineIDPath is what the agent compares with the registered machine, line end included.
	MachineIDPath = "/etc/machine-id"
)
