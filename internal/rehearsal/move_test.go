package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"

	"github.com/anywhere-ecs/anywhere/internal/cli"
	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/lifecycle"
)

const other = "elsewhere"

// move is what the tests look at in move's document.
type move struct {
	Changed, Failed bool
	RC              int
	Msg             string
	Warnings        []string
	Steps           []struct{ ID, Status, Detail string }
	Result          lifecycle.MoveResult
	Error           struct {
		Code, Message, Evidence, Remedy string
		RolledBack                      bool
		Kept                            []string
	}
}

// move runs "anywhere move", with an operator's credentials unless without says so.
func (s *stage) move(t *testing.T, to string, flags ...string) move {
	t.Helper()
	return s.moves(t, line{args: []string{"move", "--yes", "--cluster", to}, operator: true}, flags...)
}

func (s *stage) moves(t *testing.T, l line, flags ...string) move {
	t.Helper()
	l.extra = true
	c, err := s.play(context.Background(), l, cli.RehearseRequest{Args: flags})
	if err != nil && c.RC == 0 {
		t.Fatal(err)
	}
	var d move
	if err := json.Unmarshal(c.Document, &d); err != nil {
		t.Fatalf("%v: %s", err, c.Document)
	}
	return d
}

// movable is a registered host, and another cluster.
func movable(t *testing.T) (*stage, register) {
	t.Helper()
	s, d := registered(t)
	s.aws.AddCluster(other)
	return s, d
}

// alone holds the control plane to it that the host is one instance, ACTIVE, in a cluster, and has no ghost.
func (s *stage) alone(t *testing.T, cluster string) emulator.Instance {
	t.Helper()
	var live []emulator.Instance
	for _, i := range s.aws.Instances() {
		if i.Status != "INACTIVE" {
			live = append(live, i)
		}
	}
	if len(live) != 1 || live[0].Cluster != cluster || live[0].Status != "ACTIVE" {
		t.Fatalf("ECS has %+v; want one, ACTIVE, in %s", live, cluster)
	}
	if n := len(s.aws.Nodes()); n != 1 {
		t.Errorf("%d managed nodes", n)
	}
	return live[0]
}

func TestMoveThereAndBack(t *testing.T) {
	t.Parallel()
	s, before := movable(t)
	client := ecs.NewFromConfig(s.operatorConfig(t))
	if _, err := client.PutAttributes(t.Context(), &ecs.PutAttributesInput{Cluster: aws.String(cluster), Attributes: []ecstypes.Attribute{
		{Name: aws.String("rack"), Value: aws.String("7"), TargetType: "container-instance", TargetId: aws.String(before.Result.ContainerInstanceARN)},
		{Name: aws.String("marked"), TargetType: "container-instance", TargetId: aws.String(before.Result.ContainerInstanceARN)},
	}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.TagResource(t.Context(), &ecs.TagResourceInput{ResourceArn: aws.String(before.Result.ContainerInstanceARN),
		Tags: []ecstypes.Tag{{Key: aws.String("team"), Value: aws.String("a b")}}}); err != nil {
		t.Fatal(err)
	}
	arns := []string{before.Result.ContainerInstanceARN}
	places := []string{cluster, other}
	rounds := 20
	for round := range 2 * rounds {
		from, to := places[round%2], places[(round+1)%2]
		d := s.move(t, to)
		if d.RC != 0 || !d.Changed || d.Result.Verified != "aws" || d.Result.Cluster != to ||
			d.Result.From != (lifecycle.MoveOrigin{Cluster: from, ContainerInstanceARN: arns[len(arns)-1]}) || d.Result.Returned ||
			d.Result.ManagedInstanceID != before.Result.ManagedInstanceID || slices.Contains(arns, d.Result.ContainerInstanceARN) {
			t.Fatalf("round %d to %s: %+v", round, to, d)
		}
		arns = append(arns, d.Result.ContainerInstanceARN)
		if is := s.alone(t, to); is.ARN != d.Result.ContainerInstanceARN {
			t.Fatalf("ECS has %s, the host says %s", is.ARN, d.Result.ContainerInstanceARN)
		}
		if has := s.aws.Attributes(d.Result.ContainerInstanceARN); has["rack"] != "7" {
			t.Fatalf("attributes: %v", has)
		} else if _, known := has["marked"]; !known {
			t.Fatalf("attributes: %v", has)
		}
		if has := s.aws.Tags(d.Result.ContainerInstanceARN); has["team"] != "a b" {
			t.Fatalf("tags: %v", has)
		}
	}
	if again := s.move(t, cluster); again.RC != 0 || again.Changed || !strings.Contains(again.Msg, "already there") {
		t.Errorf("%+v", again)
	}
	if h := s.until(t, is(lifecycle.Healthy)); h.Result.Cluster != cluster {
		t.Errorf("%+v", h)
	}
	s.keeps(t, s.run(t, plain), line{args: []string{"register", "--cluster", cluster}}, false)
	s.refuses(t, line{args: []string{"register", "--cluster", other}}, 12, "registered_elsewhere", "belongs to cluster "+cluster,
		fmt.Sprintf("anywhere move --cluster %s", other))
}
