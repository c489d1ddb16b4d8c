package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/contract"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/test/e2e/lab"
	"github.com/anywhere-ecs/anywhere/test/e2e/packages"
)

const nextCluster = "next"

// relocated is what the test looks at in move's document.
type relocated struct {
	Changed, Failed bool
	RC              int
	Warnings        []string
	Result          struct {
		ManagedInstanceID, ContainerInstanceARN, Verified, Cluster string
		From                                                       struct{ Cluster, ContainerInstanceARN string }
		Returned                                                   bool
		Owed                                                       []string
	}
	Error *struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// move is "anywhere move" as an operator types it.
func (s *site) move(to string, more ...string) lab.Cmd {
	return lab.Cmd{Args: append([]string{
		"anywhere", "move", "-o", "json", "--yes", "--cluster", to, "--endpoint-url", s.url, "--profile", "admin",
	}, more...)}
}

func (s *site) relocate(res lab.Result) relocated {
	s.t.Helper()
	var d relocated
	if err := json.Unmarshal([]byte(res.Stdout), &d); err != nil {
		s.t.Fatalf("stdout is not one JSON object: %v\n%v", err, res)
	}
	if err := contract.Check([]byte(res.Stdout)); err != nil {
		s.t.Error(err)
	}
	if d.RC != res.Exit || d.Failed != (d.Error != nil) || d.Failed && d.Error.Remedy == "" {
		s.t.Errorf("%v", res)
	}
	return d
}

// livesIn holds the control plane to it: one instance of the host, in this cluster, ACTIVE, with what it was given; no
// ghost anywhere.
func (s *site) livesIn(cluster, node string) emulator.Instance {
	s.t.Helper()
	var live []emulator.Instance
	for _, i := range s.aws.Instances() {
		if i.Status != "INACTIVE" {
			live = append(live, i)
		}
	}
	if len(live) != 1 || live[0].Cluster != cluster || live[0].Status != "ACTIVE" || live[0].NodeID != node {
		s.t.Fatalf("ECS has %+v; want one of %s in %s", live, node, cluster)
	}
	if s.aws.Attributes(live[0].ARN)["rack"] != "7" || s.aws.Tags(live[0].ARN)["team"] != "a b" {
		s.t.Errorf("it has attributes %v and tags %v", s.aws.Attributes(live[0].ARN), s.aws.Tags(live[0].ARN))
	}
	return live[0]
}

// A real host goes from cluster to cluster: with a container of a task that runs on, to one that does not take it, killed in
// the middle again and again, and over a reboot. Its managed node stays what it is.
func TestMove(t *testing.T) {
	t.Parallel()
	s := newSite(t, packages.Options{}, packages.Options{})
	s.aws.AddCluster(nextCluster)
	h := s.host(lab.Host{})
	s.operator(h, "admin")
	if d := s.relocate(h.Run(s.move(nextCluster))); d.RC != 12 || d.Error.Code != string(failure.NoInstance) {
		t.Errorf("before any registration: %+v", d)
	}
	token := s.token(1)
	first := s.mustRegister(h, s.register(token)).Result
	node := first.ManagedInstanceID
	s.aws.Mark(first.ContainerInstanceARN, map[string]string{"rack": "7"}, map[string]string{"team": "a b"})
	container := startTask(h)

	// What forbids it is found out before anything is touched.
	before := h.Tree(treeOf...)
	for _, c := range []struct {
		cmd  lab.Cmd
		rc   int
		code failure.Code
	}{
		{s.move("none"), 4, failure.ClusterNotFound},
		{s.move(nextCluster, "--endpoint-url", "http://"+lab.Address+":1"), 5, failure.Network},
		{s.move(nextCluster, "--no-drain"), 12, failure.TasksRunning},
		{s.move(nextCluster, "--region", "us-east-1"), 12, failure.RegisteredElsewere},
	} {
		if d := s.relocate(h.Run(c.cmd)); d.RC != c.rc || d.Changed || d.Error.Code != string(c.code) {
			t.Errorf("%v: %+v %+v", c.cmd.Args, d, d.Error)
		}
	}
	if diff := differences(before, h.Tree(treeOf...), ofOneHost); len(diff) > 0 {
		t.Errorf("a refusal changed the host: %v", diff)
	}

	moved := s.relocate(h.Run(s.move(nextCluster, "--no-drain", "--force", "--accept-risk", "running-tasks")))
	if moved.RC != 0 || moved.Result.Verified != "aws" || moved.Result.ManagedInstanceID != node ||
		moved.Result.From.ContainerInstanceARN != first.ContainerInstanceARN || len(moved.Result.Owed) > 0 {
		t.Fatalf("%+v %+v", moved, moved.Error)
	}
	if is := s.livesIn(nextCluster, node); is.ARN != moved.Result.ContainerInstanceARN {
		t.Errorf("ECS has %s, the host says %s", is.ARN, moved.Result.ContainerInstanceARN)
	}
	s.settledIn(h)
	if again := s.relocate(h.Run(s.move(nextCluster))); again.RC != 0 || again.Changed {
		t.Errorf("again: %+v", again)
	}

	// A cluster that does not take the host: it is back in its own, as a new instance.
	if err := s.aws.FaultFor(emulator.FaultClusterMissing, 1); err != nil {
		t.Fatal(err)
	}
	back := s.relocate(h.Run(s.move(cluster)))
	if back.RC != 7 || !back.Result.Returned || back.Result.Cluster != nextCluster || back.Error.Code != string(failure.ClusterNotFound) {
		t.Fatalf("%+v %+v", back, back.Error)
	}
	s.livesIn(nextCluster, node)
	s.settledIn(h)

	// Killed five times, a stretch further each time; the next run goes on.
	points := []func([]string) bool{
		line(`"kind":"drain"`), line(`"kind":"unit"`, "ecs.service"), line(`"kind":"remove"`, "agent.db"), line(`"kind":"ecs.leave"`),
		line(`"is":"begin"`, "ecs.start"),
	}
	kills := 0
	for i := range points {
		// A run on a busy machine may have come further before it was dead than was waited for.
		later := func(added []string) bool {
			return slices.ContainsFunc(points[i:], func(so func([]string) bool) bool { return so(added) })
		}
		r := s.begin(h, s.move(cluster))
		if !r.until(later) {
			if res := r.end(); res.Exit != 0 {
				t.Fatalf("after %d kills: %v", kills, res)
			}
			break
		}
		r.killed()
		kills++
	}
	if t.Logf("got through after %d kills", kills); kills < 3 {
		t.Error("there should be more")
	}
	done := s.relocate(h.Run(s.move(cluster)))
	if done.RC != 0 || done.Result.ManagedInstanceID != node || done.Result.Cluster != cluster ||
		done.Changed && done.Result.From.ContainerInstanceARN != back.Result.ContainerInstanceARN {
		t.Fatalf("after %d kills: %+v %+v", kills, done, done.Error)
	}
	s.livesIn(cluster, node)
	s.settledIn(h)
	s.mustKeepSecrets(h, token)

	// Killed before its point of no return, and taken back by the journal.
	r := s.begin(h, s.move(nextCluster))
	if !r.until(line(`"kind":"unit"`, "ecs.service")) { // the agent takes a moment to stop
		t.Fatalf("it ended too soon: %v", r.end())
	}
	r.killed()
	undo := lab.Cmd{Args: []string{"anywhere", "rollback", "-o", "json", "--endpoint-url", s.url, "--profile", "admin"}}
	if d := s.read(h.Run(undo)); d.RC != 0 || !d.Changed {
		t.Errorf("rollback: %+v %+v", d, d.Error)
	}
	if is := s.livesIn(cluster, node); is.ARN != done.Result.ContainerInstanceARN {
		t.Errorf("after the rollback it is %s, before %s", is.ARN, done.Result.ContainerInstanceARN)
	}
	s.settledIn(h)
	taskRuns(t, h, container)

	h.Reboot()
	await(t, "the agent is connected again", func() bool { return s.livesIn(cluster, node).Connected })
	await(t, "the host is well", func() bool {
		d := s.relocate(h.Run(s.move(cluster)))
		return d.RC == 0 && !d.Changed && d.Result.ContainerInstanceARN == done.Result.ContainerInstanceARN
	})
	if text, _ := h.ReadFile("/etc/ecs/ecs.config"); !strings.Contains(string(text), "ECS_CLUSTER="+cluster+"\n") {
		t.Errorf("the configuration is\n%s", text)
	}
}
