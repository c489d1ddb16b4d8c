package emulator

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Resource is what a container instance has, in the words of RegisterContainerInstance.
type Resource struct {
	Name    string   `json:"name"` // CPU, MEMORY, PORTS or PORTS_UDP
	Type    string   `json:"type"` // INTEGER or STRINGSET
	Integer int      `json:"integerValue"`
	Strings []string `json:"stringSetValue,omitempty"`
}

// needs is what a task reserves: units of CPU, MiB and ports of its host ("8080/tcp").
type needs struct {
	cpu, memory int
	ports       map[string]bool
}

// needs of a task: those of the task where the definition has them, else those of its containers.
func (s *taskShape) needs() needs {
	n := needs{ports: map[string]bool{}}
	for _, c := range s.ContainerDefinitions {
		n.cpu += c.CPU
		if c.MemoryReservation > 0 { // what is reserved; memory is then only the limit
			n.memory += int(c.MemoryReservation)
		} else {
			n.memory += c.Memory
		}
		for _, p := range c.PortMappings {
			if p.HostPort == 0 && s.NetworkMode == "host" {
				p.HostPort = p.ContainerPort
			}
			if p.HostPort != 0 {
				n.ports[strconv.Itoa(p.HostPort)+"/"+or(p.Protocol, "tcp")] = true
			}
		}
	}
	if units, err := strconv.Atoi(s.CPU); err == nil {
		n.cpu = units
	}
	if mib, err := strconv.Atoi(s.Memory); err == nil {
		n.memory = mib
	}
	return n
}

// taken is what the tasks of an instance reserve.
func (e *Emulator) taken(i *instance) needs {
	all := needs{ports: map[string]bool{}}
	for _, t := range e.on(i.ARN) {
		n := e.shape(t.Family, t.Revision).needs()
		all.cpu += n.cpu
		all.memory += n.memory
		for p := range n.ports {
			all.ports[p] = true
		}
	}
	return all
}

// lacks is ECS's reason why an instance has no room for a task; empty if it has. An instance that has told nothing of
// itself has all that is asked for but ports.
func (e *Emulator) lacks(i *instance, wanted needs) string {
	taken := e.taken(i)
	for p := range wanted.ports {
		if taken.ports[p] {
			return "RESOURCE:PORTS"
		}
	}
	for _, r := range i.Resources {
		switch {
		case r.Name == "CPU" && taken.cpu+wanted.cpu > r.Integer:
			return "RESOURCE:CPU"
		case r.Name == "MEMORY" && taken.memory+wanted.memory > r.Integer:
			return "RESOURCE:MEMORY"
		}
		for _, used := range r.Strings {
			if r.Name == "PORTS" && wanted.ports[used+"/tcp"] || r.Name == "PORTS_UDP" && wanted.ports[used+"/udp"] {
				return "RESOURCE:PORTS"
			}
		}
	}
	return ""
}

// describeResources are registeredResources and remainingResources of DescribeContainerInstances. ECS counts ports that
// are used, so that a set of them is longer in what remains.
func (e *Emulator) describeResources(i *instance) (registered, remaining []any) {
	registered, remaining = []any{}, []any{}
	if len(i.Resources) == 0 {
		return registered, remaining
	}
	taken := e.taken(i)
	for _, r := range i.Resources {
		out := func(n int, used []string) map[string]any {
			row := map[string]any{"name": r.Name, "type": r.Type, "doubleValue": 0.0, "longValue": 0, "integerValue": n}
			if r.Type == "STRINGSET" {
				row["stringSetValue"] = list(used)
			}
			return row
		}
		registered = append(registered, out(r.Integer, r.Strings))
		left, used := r.Integer, list(r.Strings)
		switch r.Name {
		case "CPU":
			left -= taken.cpu
		case "MEMORY":
			left -= taken.memory
		case "PORTS":
			used = append(used, sortedPorts(taken.ports, "/tcp")...)
		case "PORTS_UDP":
			used = append(used, sortedPorts(taken.ports, "/udp")...)
		}
		remaining = append(remaining, out(left, used))
	}
	return registered, remaining
}

func sortedPorts(ports map[string]bool, protocol string) []string {
	var out []string
	for _, p := range slices.Sorted(maps.Keys(ports)) {
		if number, ok := strings.CutSuffix(p, protocol); ok {
			out = append(out, number)
		}
	}
	return out
}
