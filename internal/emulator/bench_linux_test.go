package emulator_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/anywhere-ecs/anywhere/internal/emulator"
	"github.com/anywhere-ecs/anywhere/internal/secret"
)

const benchClusters, benchInstances = 10, 5000

// fleet is an account at ECS's quotas: clusters with as many instances as they take, each with what an agent registers.
func fleet(tb testing.TB) *emulator.Emulator {
	tb.Helper()
	e := emulator.New(emulator.Options{})
	e.AddOperator(emulator.Key{ID: operatorID, Secret: secret.NewText(operatorSecret)})
	attributes := map[string]string{"ecs.ami-id": "", "ecs.os-type": "linux", "ecs.cpu-architecture": "x86_64", "ecs.os-family": "LINUX"}
	for n := range 30 {
		attributes[fmt.Sprintf("ecs.capability.number-%d", n)] = ""
	}
	for c := range benchClusters {
		name := fmt.Sprintf("cluster-%d", c)
		for n := range benchInstances {
			arn := e.AddInstance(name)
			e.Mark(arn, attributes, map[string]string{"site": "north"})
			if n%10 == 0 {
				e.AddTask(arn, emulator.Task{Family: "job"})
			}
		}
	}
	return e
}

// BenchmarkFleet builds the account and reports what it holds in memory.
func BenchmarkFleet(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		e := fleet(b)
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "heap-MB")
		runtime.KeepAlive(e)
	}
}

// BenchmarkDescribe is a page of 100 container instances of a cluster of 5,000, signed, verified and encoded.
func BenchmarkDescribe(b *testing.B) {
	e := fleet(b)
	bodies := describeBodies(b, e)
	n := 0
	page := func() {
		w := newSink()
		e.ServeHTTP(w, signedRequest(b, ecsTargets+"DescribeContainerInstances", bodies[n%len(bodies)]))
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
		n++
	}
	for range bodies { // the first description of an instance costs more
		page()
	}
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		page()
	}
	b.ReportMetric(float64(b.N)/(processorTime(b)-before).Seconds(), "pages/cpu-s")
}

// BenchmarkDescribeSmall is a page of 10: what a command about a few hosts asks for.
func BenchmarkDescribeSmall(b *testing.B) {
	e := fleet(b)
	var in struct {
		Cluster            string   `json:"cluster"`
		ContainerInstances []string `json:"containerInstances"`
	}
	if err := json.Unmarshal([]byte(describeBodies(b, e)[0]), &in); err != nil {
		b.Fatal(err)
	}
	in.ContainerInstances = in.ContainerInstances[:10]
	body, _ := json.Marshal(in) // strings
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		w := newSink()
		e.ServeHTTP(w, signedRequest(b, ecsTargets+"DescribeContainerInstances", string(body)))
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
	b.ReportMetric(float64(b.N)/(processorTime(b)-before).Seconds(), "pages/cpu-s")
}

// BenchmarkList is a page of 100 ARNs out of 5,000.
func BenchmarkList(b *testing.B) {
	e := fleet(b)
	b.ReportAllocs()
	before := processorTime(b)
	for b.Loop() {
		w := newSink()
		e.ServeHTTP(w, signedRequest(b, ecsTargets+"ListContainerInstances", `{"cluster":"cluster-3"}`))
		if w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
	b.ReportMetric(float64(b.N)/(processorTime(b)-before).Seconds(), "pages/cpu-s")
}

// BenchmarkSave writes the whole account.
func BenchmarkSave(b *testing.B) {
	e := fleet(b)
	for b.Loop() {
		var text bytes.Buffer
		if err := e.Save(&text); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(text.Len())/1e6, "file-MB")
	}
}

// BenchmarkStart is from nothing to the first answer.
func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		authority, err := emulator.NewAuthority()
		if err != nil {
			b.Fatal(err)
		}
		e := emulator.New(emulator.Options{Authority: authority})
		if err := e.Start("127.0.0.1:0"); err != nil {
			b.Fatal(err)
		}
		answer, err := http.Get(e.URL())
		if err != nil {
			b.Fatal(err)
		}
		if err := answer.Body.Close(); err != nil {
			b.Error(err)
		}
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	}
}

// describeBodies are the requests that describe every instance of one cluster.
func describeBodies(tb testing.TB, e *emulator.Emulator) (bodies []string) {
	tb.Helper()
	var arns []string
	for _, i := range e.Instances() {
		if i.Cluster == "cluster-7" {
			arns = append(arns, i.ARN)
		}
	}
	for from := 0; from < len(arns); from += 100 {
		body, err := json.Marshal(map[string]any{"cluster": "cluster-7", "containerInstances": arns[from : from+100]})
		if err != nil {
			tb.Fatal(err)
		}
		bodies = append(bodies, string(body))
	}
	return bodies
}

func signedRequest(tb testing.TB, target, body string) *http.Request {
	tb.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:4580/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", target)
	hash := sha256.Sum256([]byte(body))
	err := v4.NewSigner().SignHTTP(context.Background(), aws.Credentials{AccessKeyID: operatorID, SecretAccessKey: operatorSecret},
		r, hex.EncodeToString(hash[:]), "ecs", "us-east-1", time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// sink takes an answer and keeps its status alone: what is measured is the emulator.
type sink struct {
	header http.Header
	status int
}

func newSink() *sink { return &sink{http.Header{}, http.StatusOK} }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

// processorTime is what this process has used: others use the machine as well.
func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
