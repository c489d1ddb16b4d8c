package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/secret"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const operatorSecret = "the-operators-secret-key-of-this-test"

// operator gives the host a profile of an operator who may not do what deny says.
func (s *site) operator(h *lab.Machine, profile string, deny ...string) {
	id := "AKIA" + strings.ToUpper(profile) + "00000000"
	s.aws.AddOperator(emulator.Key{ID: id, Secret: secret.NewText(operatorSecret), Deny: deny})
	before, _ := h.ReadFile("/root/.aws/credentials")
	h.WriteFile("/root/.aws/credentials", slices.Concat(before, []byte("["+profile+"]\naws_access_key_id = "+id+
		"\naws_secret_access_key = "+operatorSecret+"\n")), 0o600)
}

// attended is register with an operator's profile, and without a token.
func (s *site) attended(profile string, more ...string) lab.Cmd {
	return s.register("", append([]string{"--profile", profile, "--region", region, "--cluster", cluster}, more...)...)
}

// An operator's credentials on the host make the token unnecessary, and AWS's own word is what the end is.
func TestAnOperatorOnTheHost(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{PostinstWaits: true}, packages.Options{})
	h := s.host(lab.Host{})
	s.operator(h, "admin")
	s.operator(h, "denied", "ssm:CreateActivation")
	s.operator(h, "blind", "ecs:DescribeContainerInstances")
	before := look(h)

	s.fails(t, h, s.attended("denied"), 4, failure.AccessDenied, "may not do ssm:CreateActivation", "AccessDenied", "allow")
	s.fails(t, h, s.attended("admin", "--cluster", "none"), 4, failure.ClusterNotFound, "cluster none", "", "create-cluster")
	s.fails(t, h, s.attended("nobody"), 2, failure.Usage, "no AWS profile", "/root/.aws", "")
	before.same(t, look(h))
	if left := s.aws.Activations(); len(left) > 0 || len(s.aws.Nodes()) > 0 {
		t.Errorf("made all the same: %+v, %+v", left, s.aws.Nodes())
	}

	// Killed while the activation is there: its code is nowhere on the host, and the next run deletes it.
	r := s.begin(h, s.attended("admin", "--name", "web 1"))
	release := r.at(ssmWaits)
	left := s.aws.Activations()
	if len(left) != 1 || left[0].Name != "web 1" || left[0].Used != 0 {
		t.Fatalf("before the first package AWS has the activations %+v", left)
	}
	r.killed()
	release()
	h.WriteFile("/dev/shm/secrets", []byte(left[0].Code+"\n"+operatorSecret+"\n"), 0o600) // systemd logs command lines
	const find = "grep -rlsF -D skip -f /dev/shm/secrets /var /etc /root /run /tmp; rm /dev/shm/secrets"
	if found := h.MustShell(find); found != "/root/.aws/credentials" { // the test's own
		t.Errorf("the activation's code or the operator's key is in %s", found)
	}
	defer releaseAll(h)()
	res := h.Run(s.attended("admin", "--name", "web 1"))
	d := s.read(res)
	if d.RC != 0 || d.Result.Verified != "aws" || !strings.Contains(res.Stdout, `"owed":[]`) || d.Result.Account != account {
		t.Fatalf("the run after the killed one: %v", res)
	}
	s.agree(d)
	s.settledIn(h)
	if left := s.aws.Activations(); len(left) > 0 {
		t.Errorf("left: %+v", left)
	}
	if nodes := s.aws.Nodes(); len(nodes) != 1 || nodes[0].Name != "web 1" {
		t.Errorf("nodes: %+v", nodes)
	}

	// And again: nothing is changed. The key that SSM Agent keeps beside the operators' profiles is none of theirs.
	created := s.asked("ssm:CreateActivation")
	again := s.read(h.Run(s.attended("admin", "--name", "web 1")))
	if again.RC != 0 || again.Changed || again.Result.Verified != "aws" {
		t.Errorf("and again: %+v", again)
	}
	asked := s.asked("sts:")
	if alone := s.read(h.Run(s.register(""))); alone.RC != 0 || alone.Changed || alone.Result.Verified != "local" || len(alone.Warnings) > 0 {
		t.Errorf("without an operator: %+v", alone)
	}
	if s.asked("sts:") != asked || s.asked("ssm:CreateActivation") != created {
		t.Error("AWS was asked with nobody's credentials")
	}
	blind := s.read(h.Run(s.attended("blind", "--name", "web 1")))
	if blind.RC != 0 || blind.Result.Verified != "local" || !strings.Contains(strings.Join(blind.Warnings, "\n"), "ecs:DescribeContainerInstances") {
		t.Errorf("an operator who may not look: %+v", blind)
	}

	s.aws.SetInstanceStatus(d.Result.ContainerInstanceARN, "INACTIVE")
	s.fails(t, h, s.attended("admin"), 12, failure.InstanceInactive, "has deregistered that instance", "INACTIVE", "systemctl restart ecs")
	h.MustShell("systemctl restart ecs")
	await(t, "the ECS agent gives up", func() bool { return h.Unit("ecs.service").Active == "failed" })
	anew := s.read(h.Run(s.attended("admin", "--name", "web 1")))
	if anew.RC != 0 || anew.Result.Verified != "aws" || anew.Result.ContainerInstanceARN == d.Result.ContainerInstanceARN ||
		anew.Result.ManagedInstanceID != d.Result.ManagedInstanceID {
		t.Errorf("what the remedy said does not help: %+v", anew)
	}
}
