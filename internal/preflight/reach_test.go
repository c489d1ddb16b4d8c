package preflight

import (
	"context"
	"net"
	"strings"
	"syscall"
	"testing"
)

func TestReachECS(t *testing.T) {
	refuse := func(context.Context) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	for _, test := range []struct {
		name    string
		subject Subject
		change  func(m *machine, w *web)
		says    string // in the error; empty is none
	}{
		{name: "well", subject: here},
		{name: "only others are out", subject: here, change: func(_ *machine, w *web) {
			for _, name := range []string{"ssm", "ecs-a-1", "ecs-t-1", "ssmmessages"} {
				w.hosts[name+zone] = refuse
			}
		}},
		{name: "refused", subject: here, change: func(_ *machine, w *web) { w.hosts["ecs"+zone] = refuse }, says: "ecs" + zone + ":443: refused"},
		{name: "no name", subject: here, change: func(_ *machine, w *web) { w.lost["*"] = nxdomain("ecs" + zone) }, says: "dns"},
		{name: "certificate of nobody", subject: here, change: func(m *machine, w *web) {
			w.hosts["ecs"+zone] = w.serve(server{by: newAuthority(m.t, "Firewall")})
		}, says: "untrusted"},
		{name: "a stand-in", subject: Subject{Region: region, Endpoints: standIn}, change: func(_ *machine, w *web) { standingIn(w) }},
		{name: "a stand-in that is out", subject: Subject{Region: region, Endpoints: standIn}, change: func(_ *machine, w *web) { w.hosts["10.77.0.1:8080"] = refuse },
			says: "10.77.0.1:8080: refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMachine(t)
			w := connect(m)
			if test.change != nil {
				test.change(m, w)
			}
			test.subject.Host = m.reader()
			err := ReachECS(t.Context(), test.subject)
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("%v", err)
			}
		})
	}
}
