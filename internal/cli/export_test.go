package cli

// ExitStatuses is the table of exit statuses, for the tests of what is made from it.
var ExitStatuses = exitStatuses

// Results of commands whose types are this room's own.
type (
	VersionResult   = versionResult
	PlatformsResult = platformsResult
	ConfigResult    = configResult
)

// How help shows flags, for the manual.
var (
	Spelled     = spelled
	DefaultOf   = defaultOf
	VariablesOf = variablesOf
)

// Where things are, for the manual.
const (
	DefaultConfig  = defaultConfig
	DefaultLogFile = defaultLogFile
)

// FlagNames are a command's flags.
var FlagNames = flagNames
