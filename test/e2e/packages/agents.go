package packages

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// SSMAgent builds amazon-ssm-agent, in the file that to names.
func SSMAgent(to string, o Options) error {
	version := o.Version + "-1" // the package's own revision
	if o.ControlVersion != "" {
		version = o.ControlVersion
	}
	b, err := newBuilder("amazon-ssm-agent", "ssm", version, o)
	if err != nil {
		return err
	}
	b.compress(cmp.Or(o.Compression, "zstd"))
	names := []string{
		"amazon-ssm-agent", "ssm-agent-worker", "ssm-cli", "ssm-document-worker", "ssm-session-worker", "ssm-session-logger",
	}
	for _, name := range names {
		program := o.Program
		if o.Ballast > 0 {
			text, err := heavy(o.Program, o.Ballast/int64(len(names)))
			if err != nil {
				return err
			}
			if program, err = b.write(name, text); err != nil {
				return err
			}
		}
		b.add(program, "/usr/bin/"+name, 0o755)
	}
	unitDir := b.unitDir()
	if o.RPM {
		unitDir = "/etc/systemd/system/" // AWS's, a configuration file there
		b.addDirs("/var/lib/amazon/ssm")
	}
	for name, target := range map[string]string{
		"ssm/amazon-ssm-agent.service":       unitDir + "amazon-ssm-agent.service",
		"ssm/amazon-ssm-agent.json.template": "/etc/amazon/ssm/amazon-ssm-agent.json.template",
		"ssm/seelog.xml.template":            "/etc/amazon/ssm/seelog.xml.template",
	} {
		if err := b.addEmbedded(name, target); err != nil {
			return err
		}
	}
	return b.build(to)
}

// ECSInit builds amazon-ecs-init with the agent's image in it, in the file that to names.
func ECSInit(to string, o Options) error {
	version := o.Version
	if o.ControlVersion != "" {
		version = o.ControlVersion
	}
	b, err := newBuilder("amazon-ecs-init", "ecs", version, o)
	if err != nil {
		return err
	}
	b.compress(cmp.Or(o.Compression, "gzip"))
	unit := cmp.Or(o.Unit, "ecs.service")
	if o.RPM { // it needs systemd, iptables and procps, which the lab's rpm does not know of; it brings no /var/log/ecs
		b.addDirs("/etc/ecs", "/var/lib/ecs/data")
		b.addGhost("/etc/ecs/ecs.config")
		b.addGhost("/etc/ecs/ecs.config.json")
		b.addGhost("/var/cache/ecs/ecs-agent.tar")
	} else {
		b.info.Depends = []string{
			"systemd", "docker-ce (>= 17.12.0) | docker-engine (>= 1.6.0) | docker-ee | docker.io",
		}
		b.addDirs("/etc/ecs", "/var/log/ecs", "/var/lib/ecs", "/var/lib/ecs/data", "/var/cache/ecs")
	}
	b.add(o.Program, "/usr/libexec/amazon-ecs-init", 0o755)
	b.add(o.Program, "/usr/libexec/amazon-ecs-volume-plugin", 0o755)
	for name, target := range map[string]string{
		map[bool]string{false: "ecs/ecs.service", true: "rpm/ecs/ecs.service"}[o.RPM]: b.unitDir() + unit,
		"ecs/amazon-ecs-volume-plugin.service":                                        b.unitDir() + "amazon-ecs-volume-plugin.service",
		"ecs/amazon-ecs-volume-plugin.socket":                                         b.unitDir() + "amazon-ecs-volume-plugin.socket",
		"ecs/amazon-ecs-init.1":                                                       "/usr/share/man/man1/amazon-ecs-init.1",
	} {
		if err := b.addEmbedded(name, target); err != nil {
			return err
		}
	}
	image, err := b.image(o)
	if err != nil {
		return err
	}
	if o.RPM { // its script makes the link
		agent, _, _ := strings.Cut(version, "-")
		b.add(image, "/var/cache/ecs/ecs-agent-v"+agent+".tar", 0o644)
		link := fmt.Sprintf("ln -sf ecs-agent-v%s.tar /var/cache/ecs/ecs-agent.tar\n", agent)
		if b.info.Scripts.PostInstall, err = b.write("postinst", []byte(link+trouble("amazon-ecs-init", o))); err != nil {
			return err
		}
	} else {
		tar := "/var/cache/ecs/ecs-agent-v" + version + ".tar"
		b.add(image, tar, 0o644)
		b.addLink("/var/cache/ecs/ecs-agent.tar", tar)
	}
	// 2 asks the next start to load the image.
	if err := b.addText([]byte("2"), "/var/cache/ecs/state", 0o644); err != nil {
		return err
	}
	return b.build(to)
}

// image writes the agent's Docker image beside the package's other files.
func (b *builder) image(o Options) (string, error) {
	program, err := heavy(o.Program, o.Ballast)
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.dir, "ecs-agent.tar")
	f, err := os.Create(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	agent, _, _ := strings.Cut(o.Version, "-")
	if _, err := (simagent.Image{Binary: program, Arch: o.arch(), Version: agent, Fault: o.Fault}).WriteTo(f); err != nil {
		return "", fmt.Errorf("write the agent's image: %w", err)
	}
	return file, f.Close()
}
