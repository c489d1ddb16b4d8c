package simagent

import (
	"fmt"
	"os"
)

// seelog is the SSM agent's log: standard output, amazon-ssm-agent.log, and errors once more in errors.log.
type seelog struct {
	place     *Place
	component string // "[CredentialRefresher] ", or empty while registering
	files     bool
}

func (l seelog) with(component string) seelog {
	l.component = "[" + component + "] "
	return l
}

func (l seelog) info(format string, args ...any)  { l.line("INFO", format, args...) }
func (l seelog) warn(format string, args ...any)  { l.line("WARN", format, args...) }
func (l seelog) error(format string, args ...any) { l.line("ERROR", format, args...) }

// line writes what the real agent's layout "%Date(2006-01-02 15:04:05.0000) %LEVEL %Msg" gives; the time is local.
func (l seelog) line(level, format string, args ...any) {
	stamp := l.place.now().Local().Format("2006-01-02 15:04:05.0000")
	message := l.component + fmt.Sprintf(format, args...)
	text := fmt.Sprintf("%s %s %s\n", stamp, level, message)
	_, _ = fmt.Fprint(l.place.stdout(), text) // as with the real agent, a log that cannot be written stops nothing
	if !l.files {
		return
	}
	l.place.appendLog(ssmLogDir, "amazon-ssm-agent.log", text, 0o700)
	if level == "ERROR" {
		l.place.appendLog(ssmLogDir, "errors.log",
			fmt.Sprintf("%s %s [agent @ simagent.go.1] %s\n", stamp, level, message), 0o700)
	}
}

// appendLog adds text to a log file and makes the folder where it is missing. Who may enter the folder may read the log:
// the ECS agent's are open to all (aws/amazon-ecs-agent issue 3028), the SSM agent's are root's.
func (p *Place) appendLog(dir, name, text string, mode os.FileMode) {
	if os.MkdirAll(p.path(dir), mode) != nil {
		return
	}
	f, err := os.OpenFile(p.path(dir+"/"+name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, mode&^0o111)
	if err != nil {
		return
	}
	_, _ = f.WriteString(text)
	_ = f.Close()
}
