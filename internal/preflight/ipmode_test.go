package preflight

import (
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
)

func TestIPv6Only(t *testing.T) {
	const (
		head   = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
		v4     = head + "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
		linkv4 = head + "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n"
		zero   = "00000000000000000000000000000000"
		v6     = zero + " 00 " + zero + " 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n"
		lastv6 = zero + " 00 " + zero + " 00 " + zero + " ffffffff 00000001 00000000 00200200       lo\n"
	)
	for _, test := range []struct {
		name, v4, v6, config string
		want                 bool
	}{
		{"IPv4", v4, lastv6, "", false},
		{"both", v4, v6 + lastv6, "", false},
		{"IPv6", linkv4, v6 + lastv6, "", true},
		{"IPv6, and no table of IPv4's", "", v6, "", false},
		{"none", head, lastv6, "", false},
		{"both, and the agent is told", v4, v6, "ipv6", true},
		{"IPv6, and the agent is told otherwise", linkv4, v6, "ipv4", false},
	} {
		m := newMachine(t)
		if test.v4 != "" {
			m.write("/proc/net/route", test.v4)
		}
		m.write("/proc/net/ipv6_route", test.v6)
		if test.config != "" {
			m.write(ecsagent.ConfigPath, ecsagent.KeyIPMode+"="+test.config+"\n")
		}
		if got := IPv6Only(m.reader()); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
