package packages

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// BuildPrograms builds what packages and hosts need, static, into dir: simagent, all agents in one program, and
// anywhere, the product. It is a setup function for lab.Main, because building may need the module proxy.
func BuildPrograms(dir string) error {
	if err := build(filepath.Join(dir, "anywhere"), "./cmd/anywhere", ""); err != nil {
		return err
	}
	return build(filepath.Join(dir, "simagent"), simagentProgram, "")
}

// BuildARM builds the product for arm64, as "anywhere-arm64".
func BuildARM(dir string) error {
	return build(filepath.Join(dir, "anywhere-arm64"), "./cmd/anywhere", "", "GOARCH=arm64")
}

// BuildAgentsForARM is BuildAgents for arm64.
func BuildAgentsForARM(name, ssmVersion, ecsVersion string) func(dir string) error {
	return func(dir string) error {
		return build(filepath.Join(dir, name), simagentProgram,
			fmt.Sprintf("-X main.ssmVersion=%s -X main.ecsVersion=%s", ssmVersion, ecsVersion), "GOARCH=arm64")
	}
}

const simagentProgram = "./internal/simagent/cmd/simagent"

// BuildAgents is a setup function that builds a further simagent, whose agents say that they are of these versions
// (as in "3.3.5000.0" and "1.106.0"): what an upgrade leads to. name is its file in lab.Shared.
func BuildAgents(name, ssmVersion, ecsVersion string) func(dir string) error {
	return func(dir string) error {
		return build(filepath.Join(dir, name), simagentProgram,
			fmt.Sprintf("-X main.ssmVersion=%s -X main.ecsVersion=%s", ssmVersion, ecsVersion))
	}
}

func build(to, pkg, ldflags string, env ...string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w "+ldflags, "-o", to, pkg)
	cmd.Dir = "../.." // the product's own module, with its own versions
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}
