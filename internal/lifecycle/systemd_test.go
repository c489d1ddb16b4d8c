package lifecycle

import (
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/preflight"
)

// directives are what the unit files of anywhere's say, with the systemd that has it first, as its NEWS and manual pages have it ("Added in version"). An
// older one warns of the line and goes on without it.
var directives = map[string]int{
	"Unit.Description": 1, "Unit.Wants": 1, "Unit.After": 1, "Unit.ConditionPathExists": 1,
	"Service.Type": 1, "Service.ExecStart": 1, "Service.Environment": 1, "Service.EnvironmentFile": 1, "Service.KillMode": 187,
	"Service.RestartPreventExitStatus": 189,
	"Timer.OnActiveSec":                1, "Timer.OnUnitInactiveSec": 1, "Timer.AccuracySec": 209,
	"Install.WantedBy": 1,
}

// oldestSystemd is that of CentOS 7, RHEL 7 and Amazon Linux 2; Debian 9 has 232, Ubuntu 18.04 has 237.
const oldestSystemd = 219

// Every line of every unit file that anywhere writes is understood by the oldest systemd of the platform table.
func TestUnitsSuitTheOldestSystemd(t *testing.T) {
	proxy, err := preflight.NewProxy("", "http://u:p@proxy.example.com:3128", "10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := proxy.Units()
	plain, err := preflight.NewProxy("", "http://proxy.example.com:3128", "")
	if err != nil {
		t.Fatal(err)
	}
	open, _ := plain.Units()
	seen := map[string]bool{}
	for name, text := range map[string]string{
		"the ECS agent's drop-in": string(ecsagent.DropIn()), "a proxy's drop-in": string(open), "a proxy's drop-in with a password": string(secret),
		"an upgrade's service": tenderUnit(deadline{}), "an upgrade's timer": timerUnit(),
	} {
		section := ""
		for line := range strings.Lines(text) {
			line = strings.TrimSpace(line)
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
				continue
			case strings.HasPrefix(line, "["):
				section = strings.Trim(line, "[]")
				continue
			}
			key, value, _ := strings.Cut(line, "=")
			key = section + "." + key
			seen[key] = true
			since, known := directives[key]
			if !known || since > oldestSystemd {
				t.Errorf("%s says %s, which systemd has since %d (0: nobody has looked)", name, key, since)
			}
			if strings.HasPrefix(key, "Service.Timeout") && value == "infinity" { // 229
				t.Errorf("%s: systemd %d does not know %s", name, oldestSystemd, line)
			}
			for _, prefix := range []string{"append:", "file:", "+", "!"} { // of 240, 236, 231 and 232
				if strings.HasPrefix(value, prefix) {
					t.Errorf("%s: systemd %d does not know %s", name, oldestSystemd, line)
				}
			}
		}
	}
	for key := range directives {
		if !seen[key] {
			t.Errorf("no unit file says %s", key)
		}
	}
}
