package packages

import (
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
	"github.com/goreleaser/nfpm/v2/rpm"
)

//go:embed files
var embedded embed.FS

// Options says what package to build.
type Options struct {
	Version string // as AWS writes it: "3.3.4108.0" for SSM Agent, "1.105.1-1" for amazon-ecs-init
	Program string // path of a static simagent
	Arch    string // amd64 (when empty) or arm64

	// Ballast makes the programs of SSM Agent together, and the ECS agent's image, so many bytes larger. It compresses as
	// programs do.
	Ballast int64
	// Compression is how the package is compressed: gzip, xz or zstd. When empty: zstd for SSM Agent, so that this is
	// met too, and gzip for amazon-ecs-init.
	Compression string

	// Fault is what the ECS agent of this version does wrong when it runs: one of simagent's.
	Fault string

	// RPM builds an rpm, and not a deb. Unit is what the ECS agent's service is called; ecs.service when empty.
	RPM  bool
	Unit string

	// What can be wrong with it.
	ControlVersion string // the version the package itself claims, where the names claim Version
	PostinstFails  bool   // installing ends with an error after the files are unpacked and the real postinst has run
	PostinstWaits  bool   // installing makes /run/NAME.postinst and goes on only when that is gone: the moment to kill
	RemovalWaits   bool   // removing an rpm waits so with /run/NAME.postrm, behind its files and before the database forgets it
	Padding        int64  // so many bytes that don't compress, in /usr/share/NAME
}

func (o Options) arch() string {
	if o.Arch == "" {
		return "amd64"
	}
	return o.Arch
}

// builder collects one package in a folder of its own.
type builder struct {
	dir  string
	info nfpm.Info
	kind string // deb or rpm
}

// newBuilder begins a package with the maintainer scripts that lie in files/KIND.
func newBuilder(name, kind, debVersion string, o Options) (*builder, error) {
	dir, err := os.MkdirTemp("", "package-")
	if err != nil {
		return nil, err
	}
	b := &builder{dir: dir, kind: "deb"}
	scripts := "files"
	if o.RPM {
		b.kind, scripts = "rpm", "files/rpm"
	}
	upstream, revision, _ := strings.Cut(debVersion, "-")
	b.info = nfpm.Info{
		Name: name, Arch: o.arch(), Platform: "linux", Section: "admin", Priority: "optional",
		Version: upstream, Release: revision, VersionSchema: "none",
		Maintainer: "Test lab <lab@example.com>", Description: "Simulated " + name + ", for tests",
		DisableGlobbing: true,
	}
	for script, field := range map[string]*string{
		"preinst": &b.info.Scripts.PreInstall, "postinst": &b.info.Scripts.PostInstall,
		"prerm": &b.info.Scripts.PreRemove, "postrm": &b.info.Scripts.PostRemove, "posttrans": &b.info.RPM.Scripts.PostTrans,
	} {
		text, err := embedded.ReadFile(path.Join(scripts, kind, script))
		if waits := script == "postrm" && o.RemovalWaits; errors.Is(err, os.ErrNotExist) && !waits {
			continue
		} else if waits {
			text = fmt.Appendf(text, "[ \"$1\" -eq 0 ] || exit 0\n%s", waiting(name, script))
		}
		if script == "postinst" {
			text = append(text, trouble(name, o)...)
		}
		if *field, err = b.write(script, text); err != nil {
			return nil, err
		}
	}
	if o.Padding > 0 {
		if err := b.pad(name, o.Padding); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// trouble is what a package that goes wrong has at the end of its postinst.
func trouble(name string, o Options) string {
	text := ""
	if o.PostinstWaits {
		text += waiting(name, "postinst")
	}
	if o.PostinstFails {
		text += "echo 'this package fails on purpose' >&2\nexit 1\n"
	}
	return text
}

// waiting is what a script waits with until its mark is removed.
func waiting(name, script string) string {
	return fmt.Sprintf("touch /run/%[1]s.%[2]s\nwhile [ -e /run/%[1]s.%[2]s ]; do sleep 0.05; done\n", name, script)
}

func (b *builder) write(name string, data []byte) (string, error) {
	file := filepath.Join(b.dir, name)
	return file, os.WriteFile(file, data, 0o644)
}

func (b *builder) pad(name string, size int64) error {
	file := filepath.Join(b.dir, "padding")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, rand.Reader, size)
	b.add(file, "/usr/share/"+name+"/padding", 0o644)
	return errors.Join(err, f.Close())
}

// add puts a file of this machine into the package.
func (b *builder) add(source, target string, mode os.FileMode) {
	b.info.Contents = append(b.info.Contents, &files.Content{
		Source: source, Destination: target, Type: files.TypeFile, FileInfo: &files.ContentFileInfo{Mode: mode},
	})
}

// addText puts a small file into the package. In an rpm, a unit in /etc is configuration.
func (b *builder) addText(data []byte, target string, mode os.FileMode) error {
	file, err := b.write("content-"+strings.ReplaceAll(target, "/", "_"), data)
	b.add(file, target, mode)
	if strings.HasPrefix(target, "/etc/systemd/") {
		b.info.Contents[len(b.info.Contents)-1].Type = files.TypeConfigNoReplace
	}
	return err
}

// addGhost claims a file that the package does not bring.
func (b *builder) addGhost(target string) {
	b.info.Contents = append(b.info.Contents, &files.Content{
		Destination: target, Type: files.TypeRPMGhost, FileInfo: &files.ContentFileInfo{Mode: 0o644},
	})
}

// compress chooses the compressor of either kind of package.
func (b *builder) compress(how string) { b.info.Deb.Compression, b.info.RPM.Compression = how, how }

// unitDir is where the kind of package has its units.
func (b *builder) unitDir() string {
	if b.kind == "rpm" {
		return "/usr/lib/systemd/system/"
	}
	return "/lib/systemd/system/"
}

// addEmbedded puts a file from files/ into the package.
func (b *builder) addEmbedded(name, target string) error {
	data, err := embedded.ReadFile(path.Join("files", name))
	if err != nil {
		return err
	}
	return b.addText(data, target, 0o644)
}

func (b *builder) addDirs(targets ...string) {
	for _, target := range targets {
		b.info.Contents = append(b.info.Contents, &files.Content{
			Destination: target, Type: files.TypeDir, FileInfo: &files.ContentFileInfo{Mode: 0o755},
		})
	}
}

func (b *builder) addLink(target, leadsTo string) {
	b.info.Contents = append(b.info.Contents, &files.Content{Source: leadsTo, Destination: target, Type: files.TypeSymlink})
}

// build writes the package to a file and removes the folder it was collected in.
func (b *builder) build(to string) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	info := nfpm.WithDefaults(&b.info)
	if err := nfpm.PrepareForPackager(info, b.kind); err != nil {
		return err
	}
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	if b.kind == "rpm" {
		return errors.Join(rpm.Default.Package(info, f), f.Close())
	}
	return errors.Join(deb.Default.Package(info, f), f.Close())
}
