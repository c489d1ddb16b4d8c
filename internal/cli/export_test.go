package cli

// ExitStatuses is the table of exit statuses, for the tests of what is made from it.
var ExitStatuses = exitStatuses

// Results of commands whose types are this room's own.
type (
	VersionResult   = versionResult
	PlatformsResult = platformsResult
	ConfigResult    = configResult
)
