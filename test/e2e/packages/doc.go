// Package packages builds packages as AWS publishes them, around the simulated agents of internal/simagent: the same
// names, files, units, dependencies and behaviour of the maintainer scripts, so that a host takes them for AWS's. They
// are signed by keys made for the occasion and laid out as in AWS's buckets.
//
//	mirror := packages.NewMirror(t, "eu-central-1")
//	mirror.AddSSMAgent(packages.Options{Version: "3.3.4108.0", Program: lab.Shared("simagent")})
//	mirror.AddECSInit(packages.Options{Version: "1.105.1-1", Program: lab.Shared("simagent")})
//	http.FileServer(http.Dir(mirror.Dir)) // or the emulator's Artifacts, or --artifacts mirror.Dir
//	os.WriteFile("keyring", mirror.Keyring(), 0o644)  // for --keyring
//
// Options also makes packages that go wrong: on purpose, and always in the same way.
//
// What the real packages hold was read in aws/amazon-ecs-agent (1.105.1, 2026-06-29) and aws/amazon-ssm-agent, and the
// scripts that debhelper adds to amazon-ecs-init were generated with debhelper 13.11.4 on 2026-11-22.
package packages
