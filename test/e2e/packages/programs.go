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
	module, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	for name, pkg := range map[string]string{"simagent": "./internal/simagent/cmd/simagent"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, name), pkg)
		cmd.Dir = module
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}
