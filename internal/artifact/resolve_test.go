package artifact

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/anywhere-ecs/anywhere/internal/failure"
)

// The paths are AWS's (sources at locations).
func TestKeys(t *testing.T) {
	for _, row := range []struct{ product, family, arch, key, latest, signature string }{
		{"amazon-ecs-init", Deb, "amd64", "amazon-ecs-agent-eu-central-1/amazon-ecs-init-V.amd64.deb",
			"amazon-ecs-agent-eu-central-1/amazon-ecs-init-latest.amd64.deb", ".asc"},
		{"amazon-ecs-init", Deb, "arm64", "amazon-ecs-agent-eu-central-1/amazon-ecs-init-V.arm64.deb",
			"amazon-ecs-agent-eu-central-1/amazon-ecs-init-latest.arm64.deb", ".asc"},
		{"amazon-ecs-init", RPM, "amd64", "amazon-ecs-agent-eu-central-1/amazon-ecs-init-V.x86_64.rpm",
			"amazon-ecs-agent-eu-central-1/amazon-ecs-init-latest.x86_64.rpm", ".asc"},
		{"amazon-ecs-init", RPM, "arm64", "amazon-ecs-agent-eu-central-1/amazon-ecs-init-V.aarch64.rpm",
			"amazon-ecs-agent-eu-central-1/amazon-ecs-init-latest.aarch64.rpm", ".asc"},
		{"amazon-ssm-agent", Deb, "amd64", "amazon-ssm-eu-central-1/V/debian_amd64/amazon-ssm-agent.deb",
			"amazon-ssm-eu-central-1/latest/debian_amd64/amazon-ssm-agent.deb", ".sig"},
		{"amazon-ssm-agent", RPM, "arm64", "amazon-ssm-eu-central-1/V/linux_arm64/amazon-ssm-agent.rpm",
			"amazon-ssm-eu-central-1/latest/linux_arm64/amazon-ssm-agent.rpm", ".sig"},
	} {
		ref := Ref{Product: Product(row.product), Version: "V", Family: row.family, Arch: row.arch, Region: region}
		if err := ref.check(); err != nil {
			t.Error(err)
		}
		if ref.key("V") != row.key || ref.key(Latest) != row.latest || ref.signature() != row.signature {
			t.Errorf("%s, %s, %s", ref.key("V"), ref.key(Latest), ref.signature())
		}
	}
}

func TestResolve(t *testing.T) {
	newest := func(ref Ref) Ref { ref.Version = Latest; return ref }
	with := func(ref Ref, change func(*Ref)) Ref { change(&ref); return ref }
	alias, version := newest(ecsRef).key(Latest), ssmRef.latestKey()
	rows := []struct {
		name string
		ref  Ref
		do   func(s *story)
		want string
		code failure.Code
	}{
		{"ECS", newest(ecsRef), nil, "1.106.0-2", ""},
		{"ECS, empty", with(ecsRef, func(r *Ref) { r.Version = "" }), nil, "1.106.0-2", ""},
		{"ECS, a server that ignores ranges", newest(ecsRef), func(s *story) {
			s.faults[alias] = func(w http.ResponseWriter, r *http.Request, _ int, object []byte) bool {
				w.Write(object)
				return true
			}
		}, "1.106.0-2", ""},
		{"ECS, page", newest(ecsRef), func(s *story) { s.faults[alias] = status(200) }, "", failure.ArtifactMissing},
		{"ECS, missing", newest(ecsRef), func(s *story) { delete(s.objects, alias) }, "", failure.ArtifactMissing},
		{"ECS, 503 once", newest(ecsRef), func(s *story) { s.faults[alias] = first(1, status(503)) }, "1.106.0-2", ""},
		{"ECS, version that leads elsewhere", newest(ecsRef), func(s *story) {
			s.objects[alias] = newDeb(s.t, "amazon-ecs-init", "../1", "amd64", 10)
		}, "", failure.Usage},
		{"ECS, another package", newest(ecsRef), func(s *story) {
			s.objects[alias] = newDeb(s.t, "coreutils", "1.0-1", "amd64", 10)
		}, "", failure.ArtifactMissing},
		{"SSM", newest(ssmRef), nil, "3.3.5000.0", ""},
		{"SSM, page", newest(ssmRef), func(s *story) { s.faults[version] = status(200) }, "", failure.ArtifactMissing},
		{"SSM, missing", newest(ssmRef), func(s *story) { delete(s.objects, version) }, "", failure.ArtifactMissing},
		{"ECS, given", ecsRef, nil, "1.105.1-1", ""},
		{"ECS, the agent's own version", with(ecsRef, func(r *Ref) { r.Version = "1.105.1" }), nil, "1.105.1-1", ""},
		{"SSM, dpkg's version", with(ssmRef, func(r *Ref) { r.Version = "3.3.4108.0-1" }), nil, "3.3.4108.0", ""},
		{"bad version", with(ecsRef, func(r *Ref) { r.Version = "1/../2" }), nil, "", failure.Usage},
		{"bad region", with(ecsRef, func(r *Ref) { r.Region = "eu/central" }), nil, "", failure.Usage},
		{"bad architecture", with(ecsRef, func(r *Ref) { r.Arch = "386" }), nil, "", failure.UnsupportedArch},
		{"family", with(ecsRef, func(r *Ref) { r.Family = "apk" }), nil, "", failure.NotBuilt},
		{"rpm's newest", with(ecsRef, func(r *Ref) { r.Family, r.Version = RPM, "" }), func(s *story) {
			s.objects["amazon-ecs-agent-eu-central-1/amazon-ecs-init-latest.x86_64.rpm"] = newRPM("amazon-ecs-init", "1.107.0", "1", "x86_64", "", nil)
		}, "1.107.0-1", ""},
		{"rpm's newest is a deb", with(ecsRef, func(r *Ref) { r.Family, r.Version = RPM, "" }), func(s *story) {
			s.objects["amazon-ecs-agent-eu-central-1/amazon-ecs-init-latest.x86_64.rpm"] = newDeb(s.t, "amazon-ecs-init", "1.106.0-2", "amd64", 10)
		}, "", failure.ArtifactMissing},
		{"rpm's newest, SSM", with(ssmRef, func(r *Ref) { r.Family, r.Version = RPM, "" }), nil, "3.3.5000.0", ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStory(t, row.ref)
				s.objects[alias] = newDeb(t, "amazon-ecs-init", "1.106.0-2", "amd64", packageSize)
				s.objects[version] = []byte("3.3.5000.0\n")
				if row.do != nil {
					row.do(s)
				}
				got, err := s.source.Resolve(t.Context(), row.ref)
				if got != row.want || row.code != "" && !failure.Is(err, row.code) || row.code == "" && err != nil {
					t.Errorf("got %q, %v (%s); want %q %s", got, err, failure.Of(err), row.want, row.code)
				}
				for _, a := range s.of(alias) {
					if !strings.HasPrefix(a.rangeOf, "bytes=0-") {
						t.Errorf("asked for the range %q of the alias", a.rangeOf)
					}
				}
			})
		})
	}
}
