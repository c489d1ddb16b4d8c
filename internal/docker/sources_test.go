package docker

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/platform"
)

func TestPackagesOfASource(t *testing.T) {
	row, _, _ := platform.Find("debian", "12", "Debian GNU/Linux", nil)
	for source, want := range map[string][2]string{
		platform.SourceDocker: {"docker-ce docker-ce-cli containerd.io", "Docker's own repository"},
		platform.SourceDistro: {"docker.io iptables", "Debian's package docker.io"},
	} {
		if got := strings.Join(Packages(row, source), " "); got != want[0] || SourceName(row, source) != want[1] {
			t.Errorf("%s: %q, %q", source, got, SourceName(row, source))
		}
	}
	// Each system that takes Docker's packages on its own says under which name.
	for _, row := range platform.Table() {
		for _, source := range row.Docker {
			if Packages(row, source)[0] == "" {
				t.Errorf("%s: %s has no package", row.System, source)
			}
		}
	}
}

const agentImage = "amazon/amazon-ecs-agent:latest"

func ours(image string) bool { return image == agentImage }

func TestHoldingsOfADaemon(t *testing.T) {
	empty := daemon{"/containers/json": `[]`, "/images/json": `[]`, "/volumes": `{"Volumes":null}`}
	for _, test := range []struct {
		name    string
		answers map[string]string
		want    []string
	}{
		{"nothing", nil, nil},
		{"what is the agent's", map[string]string{
			"/containers/json": `[{"Id":"aa","Names":["/ecs-agent"],"Image":"` + agentImage + `"}]`,
			"/images/json":     `[{"Id":"sha256:77","RepoTags":["` + agentImage + `"]}]`,
		}, nil},
		{"somebody's", map[string]string{
			"/containers/json": `[{"Id":"bb","Names":["/web"],"Image":"nginx"}]`,
			"/images/json":     `[{"Id":"sha256:0123456789abcdef","RepoTags":null},{"Id":"sha256:77","RepoTags":["` + agentImage + `","mine:1"]}]`,
			"/volumes":         `{"Volumes":[{"Name":"data"}]}`,
		}, []string{"the container web", "the image 0123456789ab", "the image " + agentImage, "the volume data"}},
		{"a container without a name", map[string]string{"/containers/json": `[{"Id":"0123456789abcdef","Names":[],"Image":"nginx"}]`},
			[]string{"the container 0123456789ab"}},
	} {
		d := daemon{}
		for path, body := range empty {
			d[path] = body
		}
		for path, body := range test.answers {
			d[path] = body
		}
		got, err := Holdings(t.Context(), machine(t, nil, nil, d), ours)
		if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
}

// A daemon that is down is no reason to take its containers for nobody's.
func TestHoldingsOfADaemonThatIsDown(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  []string
		code  failure.Code
	}{
		{name: "never ran"},
		{name: "ran and held nothing", files: map[string]string{
			DataRoot + "/volumes/metadata.db": "", DataRoot + "/image/overlay2/repositories.json": "{}",
		}},
		{name: "a container", files: map[string]string{DataRoot + "/containers/" + id + "/config.v2.json": "{}"}, want: []string{"the container 0123456789ab"}},
		{name: "a volume", files: map[string]string{DataRoot + "/volumes/data/_data/x": ""}, want: []string{"the volume data"}},
		{name: "an image", files: map[string]string{DataRoot + "/image/overlay2/imagedb/content/sha256/" + id: "{}"}, want: []string{"the image 0123456789ab"}},
		{name: "an image in containerd's store", files: map[string]string{
			ContainerdRoot + "/io.containerd.content.v1.content/blobs/sha256/" + id: "",
		}, want: []string{"an image's part 0123456789ab"}},
		{name: "data elsewhere", files: map[string]string{configPath: `{"data-root": "/srv/docker"}`}, code: failure.DockerDown},
		{name: "a setting that moves nothing", files: map[string]string{configPath: `{"log-driver": "journald"}`}},
	} {
		r := machine(t, nil, nil, nil)
		root := r.Files.(*host.Dir).Local("/")
		for path, text := range test.files {
			local := filepath.Join(root, path)
			if err := os.MkdirAll(filepath.Dir(local), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(local, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Holdings(t.Context(), r, ours)
		if test.code != "" {
			if !failure.Is(err, test.code) {
				t.Errorf("%s: %q, %v", test.name, got, err)
			}
		} else if err != nil || !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	r := machine(t, nil, nil, nil)
	r.Files = unlisted{r.Files}
	if got, err := Holdings(t.Context(), r, ours); err == nil {
		t.Errorf("a data folder that cannot be read holds %q", got)
	}
}

// unlisted refuses to list folders.
type unlisted struct{ host.Files }

func (unlisted) ReadDir(string) ([]fs.DirEntry, error) { return nil, fs.ErrPermission }

// What is there is found without asking the daemon.
func TestFind(t *testing.T) {
	info, err := Find(t.Context(), machine(t, []string{"/usr/bin/dockerd"}, nil, nil))
	if err != nil || !info.Present || info.Flavour != Engine || info.Running {
		t.Errorf("%+v, %v", info, err)
	}
	if info, err = Find(t.Context(), machine(t, nil, nil, nil)); err != nil || info.Present {
		t.Errorf("%+v, %v", info, err)
	}
	// In a place where nobody would look, only its answer shows it.
	if info, err = Find(t.Context(), machine(t, nil, nil, daemon{"/version": engineVersion, "/info": engineInfo})); err != nil || !info.Running {
		t.Errorf("%+v, %v", info, err)
	}
}
