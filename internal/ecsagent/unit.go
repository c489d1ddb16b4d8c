package ecsagent

// DropIn is the content of DropInPath. Exit status 5 is the agent's "terminal": starting it again cannot help. The
// generic RPM's unit says so itself, the Debian package's does not and would restart it every ten seconds for ever
// (packaging/generic-deb-integrated/debian/ecs.service of 1.105.1). No unit of AWS's waits for the network.
func DropIn() []byte {
	return []byte(`# Written by anywhere. Changes are overwritten; add another file beside this one instead.
[Unit]
Wants=network-online.target
After=network-online.target

[Service]
RestartPreventExitStatus=5
`)
}
