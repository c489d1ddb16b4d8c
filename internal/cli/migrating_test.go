package cli_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// scriptFlags are the flags of AWS's two scripts: ecs-anywhere-install.sh of 2026-04-14 with the undocumented ones, and
// ecs-anywhere-install.ps1 of 2022 and 2023.
var scriptFlags = []string{
	"--region", "--cluster", "--activation-id", "--activation-code", "--skip-registration", "--no-start", "--enable-gpu",
	"--docker-install-source", "--ecs-version", "--ecs-endpoint", "--certs-file", "--ip-compatibility", "--skip-gpg-check",
	"--deb-url", "--rpm-url",
	"-Region", "-Cluster", "-ActivationID", "-ActivationCode", "-SkipRegistration", "-ECSVersion", "-ECSEndpoint",
	"-Uninstall", "-OverrideArtifactsS3Bucket", "-ECSToolsS3BucketName", "-ContainerRuntimeVersion",
}

const notBuilt = "not built yet"

// Every flag of AWS's scripts has a row in docs/migrating.md. What stands there as ours is there; where it is not, the
// row says so, and stops saying so once it is.
func TestMigratingIsTrue(t *testing.T) {
	register, _, err := tree().Find([]string{"register"})
	if err != nil {
		t.Fatal(err)
	}
	text := documents(t)["docs/migrating.md"]
	flag := regexp.MustCompile("`(--?[A-Za-z0-9-]+)")
	command := regexp.MustCompile("`anywhere ([a-z]+)")
	var theirs []string
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "/"), "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `-") {
			continue
		}
		for _, name := range flag.FindAllStringSubmatch(cells[1], -1) {
			theirs = append(theirs, name[1])
		}
		ours, absent := flag.FindAllStringSubmatch(cells[2], -1), ""
		for _, name := range ours {
			if f := lookup(register, strings.TrimLeft(name[1], "-")); f == nil {
				absent = name[1]
			}
		}
		for _, name := range command.FindAllStringSubmatch(cells[2], -1) {
			if found, _, err := tree().Find(name[1:2]); err != nil || !found.HasParent() {
				absent = "anywhere " + name[1]
			}
		}
		switch said := strings.Contains(cells[2], notBuilt); {
		case absent != "" && !said:
			t.Errorf("docs/migrating.md: there is no %s, and its row does not say %q:\n%s", absent, notBuilt, line)
		case absent == "" && said:
			t.Errorf("docs/migrating.md: what this row calls %q is built; say what it does:\n%s", notBuilt, line)
		}
	}
	for _, want := range scriptFlags {
		if !slices.Contains(theirs, want) {
			t.Errorf("docs/migrating.md has no row for AWS's %s", want)
		}
	}
	if len(theirs) != len(scriptFlags) {
		t.Errorf("docs/migrating.md has rows for %d flags of AWS's, not for %d: %v", len(theirs), len(scriptFlags), theirs)
	}
}
