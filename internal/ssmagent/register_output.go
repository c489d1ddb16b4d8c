package ssmagent

import (
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// refused begins the line by which the agent says that a registration failed; what comes before it is noise, or a
// complaint that the agent got over.
const refused = "Registration failed due to"

// refusal makes an error of the output of a failed registration: the known cause in plain words, and the agent's own
// line as evidence. A failure that is not known is told by that line alone.
func refusal(result host.Result, reg Registration) error {
	output := reg.clean(result.Output)
	evidence := lastLine(output)
	for row := range strings.Lines(output) {
		if strings.HasPrefix(row, "panic: ") { // an answer of the service that the agent does not expect
			evidence = strings.TrimSpace(row)
		}
	}
	for _, rec := range splitRecords(output, time.UTC) {
		if strings.Contains(rec.text, refused) {
			evidence = rec.text
			if known, ok := explain(rec.text); ok {
				cause, remedy := known.explained()
				return failure.New(known.Code, "could not register this host with Systems Manager in %s: %s", reg.Region, cause).
					WithEvidence("%s", short(rec.text)).WithRemedy("%s", remedy)
			}
		}
	}
	return failure.New(failure.Internal, "could not register this host with Systems Manager in %s: "+
		"amazon-ssm-agent -register ended with exit status %d", reg.Region, result.ExitCode).
		WithEvidence("%s", short(evidence))
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return strings.TrimSpace(text[strings.LastIndexByte(text, '\n')+1:])
}
