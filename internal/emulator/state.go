package emulator

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// Key is a pair of access keys that the emulator accepts. Deny lists the actions ("ssm:CreateActivation") that its
// policy does not allow; "ssm:*" and "*" work.
type Key struct {
	ID     string
	Secret secret.Text
	Token  secret.Text // empty for long-lived keys
	Deny   []string
}

type key struct {
	Key
	expires time.Time // zero: never
	node    string    // mi- id; empty for operators
	role    string    // of a task: the ARN that the caller has; it may do nothing but ask who it is
}

type activation struct {
	id, code, role, name, description string
	limit, used                       int
	created, expires                  time.Time
	tags                              []tag
}

type tag struct {
	Key   string `json:"Key"`
	Value string `json:"Value"`
}

type node struct {
	Node
	fingerprint string
	publicKey   *rsa.PublicKey
	gone        bool
	goneAt      time.Time         // zero: nothing shows it any more
	channels    map[*channel]bool // to the message gateway
}

// Node is a managed node of Systems Manager.
type Node struct {
	ID           string // mi-…
	ActivationID string
	Role         string
	Name         string
	Registered   time.Time
	LastPing     time.Time // zero: never
	AgentVersion string
	Computer     string
	IP           string
	Platform     string
	PlatformVer  string
}

type cluster struct {
	name      string
	status    string
	instances []*instance
	byID      map[string]*instance // the end of the ARN; nil: to be made
}

type instance struct {
	Instance
	attributes []attribute
	tags       []attribute // ECS writes key and value in lower case, as attributes have name and value
	sockets    map[*socket]bool
	described  described
	elsewhere  bool // another machine's: it has no agent, and counts as connected
}

type attribute struct {
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`
}

// Instance is a container instance of ECS.
type Instance struct {
	ARN          string
	Cluster      string // name
	NodeID       string // the managed node whose credentials registered it
	Status       string // ACTIVE, DRAINING or INACTIVE
	Connected    bool   // agentConnected: a socket to ACS is open now
	AgentVersion string
	AgentHash    string
	Docker       string // as the agent names it: "DockerVersion: 27.3.1"
	Registered   time.Time
	Tasks        int        // running tasks
	Pending      int        // pending tasks
	Resources    []Resource // what it said that it has
	Runs         bool       // its agent runs containers, and reports what becomes of them
}

// AddCluster makes an ACTIVE cluster and returns its ARN.
func (e *Emulator) AddCluster(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clusters[name] == nil {
		e.clusters[name] = &cluster{name: name, status: "ACTIVE"}
	}
	return e.clusterARN(name)
}

// Clusters are the names of all clusters, sorted.
func (e *Emulator) Clusters() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return sortedNames(e.clusters)
}

// Operator is the first key of an operator who may do everything, or else the first of any.
func (e *Emulator) Operator() (Key, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var found *key
	for _, id := range sortedNames(e.keys) {
		if k := e.keys[id]; k.node == "" && (found == nil || len(k.Deny) < len(found.Deny)) {
			found = k
		}
	}
	if found == nil {
		return Key{}, false
	}
	return found.Key, true
}

// SetClusterStatus makes a cluster INACTIVE, PROVISIONING and so on. An unknown one is passed over.
func (e *Emulator) SetClusterStatus(name, status string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c := e.clusters[name]; c != nil {
		c.status = status
	}
}

// AddActivation makes an activation for the role ecsAnywhereRole.
func (e *Emulator) AddActivation(limit int, expires time.Time) (id, code string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.activate("ecsAnywhereRole", limit, expires)
	return a.id, a.code
}

func (e *Emulator) activate(role string, limit int, expires time.Time) *activation {
	a := &activation{
		id: uuid(), code: activationCode(), role: role, limit: limit, created: e.opts.Now(), expires: expires,
	}
	e.activations[a.id] = a
	return a
}

// AddOperator makes the emulator accept a key.
func (e *Emulator) AddOperator(k Key) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.keys[k.ID] = &key{Key: k}
}

// Nodes returns the managed nodes, oldest first, without those that were deregistered.
func (e *Emulator) Nodes() []Node {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []Node{}
	for _, id := range e.nodeOrder {
		if n := e.nodes[id]; !n.gone {
			out = append(out, n.Node)
		}
	}
	return out
}

// DeregisterNode makes Systems Manager know a managed node no more. Its credentials live on until they expire.
func (e *Emulator) DeregisterNode(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.nodes[id]; n != nil {
		n.forget()
	}
}

// Instances returns the container instances of all clusters, INACTIVE ones too, by cluster and age.
func (e *Emulator) Instances() []Instance {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.settle()
	out := []Instance{}
	for _, name := range sortedNames(e.clusters) {
		for _, i := range e.clusters[name].instances {
			v := i.view()
			v.Tasks, v.Pending = e.counts(v.ARN)
			out = append(out, v)
		}
	}
	return out
}

// SetInstanceStatus makes a container instance DRAINING, INACTIVE and so on while its agent notices nothing. An unknown
// ARN is passed over.
func (e *Emulator) SetInstanceStatus(arn, status string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.instance(arn); i != nil {
		i.Status = status
	}
}

// RemoveCluster makes ECS forget a cluster. An unknown one is passed over.
func (e *Emulator) RemoveCluster(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.clusters, name)
}

// SetUsed sets how many registrations of an activation are used. An unknown id is passed over.
func (e *Emulator) SetUsed(id string, n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a := e.activations[id]; a != nil {
		a.used = n
	}
}

// Deregister makes Systems Manager forget a managed node. An unknown id is passed over.
func (e *Emulator) Deregister(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.nodes[id]; n != nil {
		n.forget()
	}
}

// Activation is an activation, with the code that AWS tells only once.
type Activation struct {
	ID, Code, Role, Name, Description string

	Limit, Used      int
	Created, Expires time.Time
}

// Activations returns the activations, oldest first.
func (e *Emulator) Activations() []Activation {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := []Activation{}
	for _, a := range e.activations {
		out = append(out, a.view())
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Created.Before(out[j].Created) })
	return out
}

func (a *activation) view() Activation {
	return Activation{a.id, a.code, a.role, a.name, a.description, a.limit, a.used, a.created, a.expires}
}

// ActivationsLeft returns how many registrations an activation has left, and false if there is none with this id.
func (e *Emulator) ActivationsLeft(id string) (int, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a, ok := e.activations[id]
	if !ok {
		return 0, false
	}
	return a.limit - a.used, true
}

func (e *Emulator) clusterARN(name string) string {
	return fmt.Sprintf("arn:%s:ecs:%s:%s:cluster/%s", e.partition(), e.opts.Region, e.opts.Account, name)
}

func (e *Emulator) partition() string {
	switch region := e.opts.Region; {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	case strings.HasPrefix(region, "eusc-"):
		return "aws-eusc"
	}
	return "aws"
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// find returns a cluster by name or ARN; empty is "default", as the ECS API has it.
func (e *Emulator) find(nameOrARN string) *cluster {
	if nameOrARN == "" {
		nameOrARN = "default"
	}
	if name, ok := strings.CutPrefix(nameOrARN, e.clusterARN("")); ok {
		return e.clusters[name]
	}
	return e.clusters[nameOrARN]
}

// instance finds a container instance by ARN or by the id that ends it.
func (e *Emulator) instance(arnOrID string) *instance {
	for _, c := range e.clusters {
		if i := c.instance(arnOrID); i != nil {
			return i
		}
	}
	return nil
}

func (c *cluster) instance(arnOrID string) *instance {
	if len(c.byID) != len(c.instances) { // none is ever taken away
		c.byID = make(map[string]*instance, len(c.instances))
		for _, i := range c.instances {
			c.byID[lastPart(i.ARN)] = i
		}
	}
	i := c.byID[lastPart(arnOrID)]
	if i == nil || i.ARN != arnOrID && !strings.HasSuffix(i.ARN, "/"+arnOrID) {
		return nil
	}
	return i
}

func (i *instance) view() Instance {
	out := i.Instance
	out.Connected = i.elsewhere && i.Status != "INACTIVE"
	for s := range i.sockets {
		out.Connected = out.Connected || s.acs
	}
	return out
}

func (e *Emulator) deregister(i *instance) {
	i.Status = "INACTIVE"
	e.orphan(i)
	i.hangUp()
}

// forget deregisters a node.
func (n *node) forget() {
	n.gone = true
	n.hangUp()
}

// hangUp ends the agent's sockets.
func (i *instance) hangUp() {
	for s := range i.sockets {
		s.cancel()
	}
}

func hexID(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

func uuid() string {
	h := hexID(16)
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", h[:8], h[8:12], h[13:16], h[17:20], h[20:32])
}

// activationCode has the form of AWS's: 20 characters of the base64 alphabet, so it can hold "/" and "+".
func activationCode() string {
	b := make([]byte, 15)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}
