package host

import (
	"os"
	"strings"

	"github.com/anywhere-ecs/anywhere/internal/secret"
)

// tailSize is how much of a child's output is kept: its last words, where the cause is.
const tailSize = 64 << 10

// inherited are the variables that a child gets from our own environment; both spellings of the proxies are in use.
var inherited = []string{
	"PATH", "HOME",
	"http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
}

// childEnv is a child's environment: an allow-list, so that no credential of the operator's reaches a package's script.
func childEnv(lookup func(string) (string, bool), extra []string) []string {
	env := []string{"LANG=C.UTF-8", "TERM=dumb"}
	for _, name := range inherited {
		if value, ok := lookup(name); ok && value != "" {
			env = append(env, name+"="+value)
		}
	}
	if path, _ := lookup("PATH"); path == "" {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if home, _ := lookup("HOME"); home == "" {
		env = append(env, "HOME=/root")
	}
	return append(env, extra...) // of two the later counts
}

// masked is argv without the command's secrets, also where one is only part of an argument (-code=SECRET).
func (c Cmd) masked() []string {
	argv := []string{c.Path}
	for _, arg := range c.Args {
		argv = append(argv, c.mask(arg))
	}
	return argv
}

func (c Cmd) mask(s string) string {
	for _, hidden := range c.Secret {
		if hidden != "" {
			s = strings.ReplaceAll(s, hidden, secret.Mask)
		}
	}
	return s
}

// tail reads the last tailSize bytes of a file, from the first whole line on where it was longer.
func tail(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	from := max(0, info.Size()-tailSize)
	data := make([]byte, info.Size()-from)
	n, err := f.ReadAt(data, from)
	if n < len(data) && err != nil {
		return "", err
	}
	text := string(data)
	if _, rest, ok := strings.Cut(text, "\n"); ok && from > 0 {
		text = rest
	}
	return strings.ToValidUTF8(text, "\uFFFD"), nil
}
