package ssmagent

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/host"
)

// workers are the agent's processes below which a session's shell or a command runs, as the kernel names them: it cuts a
// name after 15 characters. Source: agent 3.3.987.0, agent/appconfig/constants_unix.go.
var workers = []string{"ssm-session-wor", "ssm-document-wo", "ssm-agent-worke", "amazon-ssm-agen"}

// Session is the SSM agent's process below which this one runs, as in Session Manager or Run Command; "" where there is
// none. A process that has left its parent, by nohup or a multiplexer, is not seen.
func Session(r host.Reader) string {
	process := "self"
	for range 64 {
		text, err := r.Files.ReadFile("/proc/" + process + "/stat")
		if err != nil {
			return "" // it has ended, or is none of ours to see
		}
		name, parent := stat(string(text))
		for _, worker := range workers {
			if name == worker {
				return fmt.Sprintf("%s (pid %s)", name, process)
			}
		}
		if parent <= 1 {
			return ""
		}
		process = strconv.Itoa(parent)
	}
	return ""
}

// stat reads a process's name and its parent. The name stands in brackets and may hold any character.
func stat(text string) (name string, parent int) {
	from, to := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if from < 0 || to < from {
		return "", 0
	}
	if fields := strings.Fields(text[to+1:]); len(fields) > 1 {
		parent, _ = strconv.Atoi(fields[1]) // 0 ends the way
	}
	return text[from+1 : to], parent
}
