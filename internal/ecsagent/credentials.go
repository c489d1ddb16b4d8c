package ecsagent

import "slices"

// CredentialSource is a place from which the agent may take the credentials that it registers with.
type CredentialSource string

// The agent's sources on an external instance. It takes the first that gives keys, and does not try whether they work.
const (
	FromEnvironment CredentialSource = "environment" // AWS_ACCESS_KEY_ID and the like in one of the files of ReadConfig
	FromSharedFile  CredentialSource = "shared-file" // AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE: a file inside the container
	FromSSM         CredentialSource = "ssm-file"    // CredentialsFile, which SSM Agent maintains
	FromEC2Role     CredentialSource = "ec2-role"    // the metadata service, unless KeyNoMetadata is true
)

// Versions that changed where the agent looks. Source: CHANGELOG.md of aws/amazon-ecs-agent, 1.63.0 of 2022-09-06 and
// 1.100.0 of 2025-10-07; ecs-agent/credentials/providers there (1.105.1) and before commit 2f77c813b of 2025-09-26.
const (
	// ProfileFloor is the first agent that knows KeyProfile.
	ProfileFloor = "1.63.0"
	// ssmBeforeRole is the first agent that takes SSM Agent's file before the SDK's own files and the EC2 role.
	ssmBeforeRole = "1.100.0"
)

// What the agent sees of root's home (ecs-init/docker/docker.go of 1.105.1).
const (
	// CredentialsFile is what the agent finds as /rotatingcreds/credentials.
	CredentialsFile = "/root/.aws/credentials"
	// DefaultProfile is the profile that it reads there unless KeyProfile names another.
	DefaultProfile = "default"
)

// CredentialOrder is the order in which an agent of that version asks its sources; an empty version is the latest.
func CredentialOrder(version string) []CredentialSource {
	if version != "" && CompareVersions(version, ssmBeforeRole) < 0 {
		return []CredentialSource{FromEnvironment, FromSharedFile, FromEC2Role, FromSSM}
	}
	return []CredentialSource{FromEnvironment, FromSSM, FromSharedFile, FromEC2Role}
}

// Before reports whether a is asked before b by an agent of that version.
func (a CredentialSource) Before(b CredentialSource, version string) bool {
	order := CredentialOrder(version)
	return slices.Index(order, a) < slices.Index(order, b)
}

// Profile is the profile of CredentialsFile that the agent reads. An agent older than ProfileFloor knows only the default.
func (c Config) Profile(version string) string {
	profile := c.Agent(KeyProfile)
	if profile == "" || version != "" && CompareVersions(version, ProfileFloor) < 0 {
		return DefaultProfile
	}
	return profile
}
