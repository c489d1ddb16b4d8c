package emulator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Options says what the emulated account looks like. The zero value is a commercial Region with AWS's own time spans.
type Options struct {
	Account   string           // twelve digits; empty means 123456789012
	Region    string           // empty means us-east-1
	Now       func() time.Time // the service's clock; nil means time.Now
	TokenLife time.Duration    // how long a node's credentials live; 0 means one hour
	Heartbeat time.Duration    // between heartbeats on the agents' sockets; 0 means 30 s
	PongWait  time.Duration    // how long an agent has to answer a ping before it counts as gone; 0 means 20 s
	Slow      time.Duration    // how long the fault "slow" holds an answer back; 0 means 5 s
	// OnlineFor is how long after its last ping a node is Online. AWS does not publish the span; 0 means ten minutes,
	// twice the agent's ping period.
	OnlineFor time.Duration
	// TaskTime is how long a task takes to start, and to stop; 0 means 30 s, ECS_CONTAINER_STOP_TIMEOUT's default.
	TaskTime time.Duration
	// MessageWait is how long ec2messages holds GetMessages before it answers that there is none; 0 means 15 s. SSM Agent
	// gives up after 20 s, and takes an answer within 10 s for an error (amazon-ssm-agent 3.3, runcommand/mds).
	MessageWait time.Duration
	// Roles has roles looked at: an activation needs one that AddRole or IAM's CreateRole has made, and that trusts Systems
	// Manager. Otherwise every name is a role's.
	Roles bool
	// Lag is how long AWS's parts take to hear of each other: a new role is unknown, a deregistered node is still shown.
	// 0 is at once.
	Lag time.Duration
	// Throttling has ECS's buckets of tokens.
	Throttling bool
	// Artifacts is what the buckets hold; the first folder is the bucket, "amazon-ecs-agent-us-east-1/…". nil is empty.
	Artifacts fs.FS
	// Authority signs the certificates of a started emulator, which then answers TLS and plain HTTP on its one port. nil
	// is no TLS.
	Authority *Authority
}

// Emulator is the services. It is safe for concurrent use; its state is in memory.
type Emulator struct {
	opts Options

	mu          sync.Mutex
	clusters    map[string]*cluster    // by name
	activations map[string]*activation // by id
	nodes       map[string]*node       // by mi- id
	keys        map[string]*key        // by access key id
	taskKeys    map[string]*key        // of the roles of tasks
	armed       map[string]int         // faults: calls left, or forever
	requests    []Request
	answered    int // calls, those that the log has dropped too
	nodeOrder   []string
	tasks       []*task
	services    map[string]*service   // by "cluster/name"
	definitions []TaskDefinition      // by family and revision
	shapes      map[string]*taskShape // of them, as far as they were read
	roles       map[string]*role      // by name
	roleLag     int                   // calls of CreateActivation that still find no role
	tokens      map[string]string     // of control channels that are not open yet: node by token

	lastSequence int64 // of what goes down over ACS

	buckets map[string]*bucket // of ECS, by operation; nil before the first call

	definitionsVersion int // counts the changes of definitions

	indexed *taskIndex // nil: to be made

	changes chan struct{} // something may have changed that a [Keeper] keeps

	forgers forgers
	planned []*plannedFault // that wait for calls

	server *http.Server
	url    string
}

// New returns an Emulator with no clusters, activations or keys.
func New(opts Options) *Emulator {
	if opts.Account == "" {
		opts.Account = "123456789012"
	}
	if opts.Region == "" {
		opts.Region = "us-east-1"
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&opts.TokenLife, time.Hour}, {&opts.Heartbeat, 30 * time.Second}, {&opts.Slow, 5 * time.Second},
		{&opts.OnlineFor, 10 * time.Minute}, {&opts.TaskTime, 30 * time.Second}, {&opts.MessageWait, 15 * time.Second},
		{&opts.PongWait, 20 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	return &Emulator{
		opts: opts, clusters: map[string]*cluster{}, activations: map[string]*activation{}, nodes: map[string]*node{},
		keys: map[string]*key{}, armed: map[string]int{}, services: map[string]*service{}, roles: map[string]*role{}, tokens: map[string]string{}, taskKeys: map[string]*key{},
		changes: make(chan struct{}, 1),
		shapes:  map[string]*taskShape{},
	}
}

// Start listens on addr ("127.0.0.1:0" for any free port) and serves until Close.
func (e *Emulator) Start(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("starting the emulator: %w", err)
	}
	e.url = "http://" + l.Addr().String()
	e.server = &http.Server{
		Handler: e, ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: log.New(io.Discard, "", 0), // of clients that do not trust the authority, or that have gone
	}
	if e.opts.Authority != nil {
		var secured net.Listener
		l, secured = sortOut(l, e.opts.Authority.TLS())
		go func() { _ = e.server.Serve(secured) }() // it ends with ErrServerClosed at Close
	}
	go func() { _ = e.server.Serve(l) }() // it ends with ErrServerClosed at Close
	return nil
}

// URL is where a started emulator answers, without a slash at the end.
func (e *Emulator) URL() string { return e.url }

// Close ends a started emulator and cuts every connection, the agents' sockets too.
func (e *Emulator) Close() error {
	e.mu.Lock()
	for _, c := range e.clusters {
		for _, i := range c.instances {
			i.hangUp()
		}
	}
	for _, n := range e.nodes {
		n.hangUp()
	}
	e.mu.Unlock()
	if e.server == nil {
		return nil
	}
	if err := e.server.Close(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("closing the emulator: %w", err)
	}
	return nil
}

// Request is one line of the log of what was asked.
type Request struct {
	At        time.Time
	Operation string // "ssm:RegisterManagedInstance", "ecs:Poll", "s3:GetObject amazon-ssm-us-east-1/latest/VERSION"
	KeyID     string // the access key or managed instance that signed; empty for anonymous calls
	Status    int    // HTTP
	Error     string // AWS's error code, empty on success
}

// keepRequests is how long the log is at least, once there was so much.
const keepRequests = 20000

// Answered is how many requests there were.
func (e *Emulator) Answered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answered
}

// Requests returns the log, oldest first. A long one has lost its beginning.
func (e *Emulator) Requests() []Request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Request(nil), e.requests...)
}

func (e *Emulator) record(operation, keyID string, status int, code string) {
	var due []*plannedFault
	if code == "" {
		e.changed(operation)
	}
	e.mu.Lock()
	defer func() {
		e.mu.Unlock()
		for _, p := range due {
			e.begin(p)
		}
	}()
	if code == "" {
		due = e.due(operation)
	}
	if e.answered++; len(e.requests) >= 2*keepRequests { // half of it at once: nothing is moved for every call
		e.requests = append([]Request(nil), e.requests[keepRequests:]...)
	}
	e.requests = append(e.requests, Request{e.opts.Now(), operation, keyID, status, code})
}

// hold is the fault "slow".
func (e *Emulator) hold(ctx context.Context) {
	if !e.faulty(FaultSlow) {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(e.opts.Slow):
	}
}
