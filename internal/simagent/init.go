package simagent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// What ecs-init works with (ecs-init 1.105.1, config/common.go).
const (
	instanceConfig = "/var/lib/ecs/ecs.config" // of the install script; read first
	userConfig     = "/etc/ecs/ecs.config"     // read second, so it wins
	cacheState     = "/var/cache/ecs/state"
	cachedImage    = "/var/cache/ecs/ecs-agent.tar"
	desiredImage   = "/var/cache/ecs/desired-image"
	agentContainer = "ecs-agent"
	agentImage     = "amazon/amazon-ecs-agent:latest"
)

const initFailed = 255 // what -1 becomes

func (i *Init) version() string {
	if i.Version == "" {
		return DefaultECSVersion
	}
	return i.Version
}

// Main is the command line of amazon-ecs-init. It returns the exit status. The end of ctx is SIGTERM.
func (i *Init) Main(ctx context.Context, args []string) int {
	log := logfmt{place: &i.Place, file: "/var/log/ecs/ecs-init.log"}
	commands := map[string]func(context.Context, *docker, logfmt) error{
		"pre-start": i.preStart, "start": i.start, "stop": i.stop, "pre-stop": i.stop, "reload-cache": i.reload,
		"post-stop": func(context.Context, *docker, logfmt) error { return nil }, // it takes network rules back
	}
	if len(args) == 1 && args[0] == "version" {
		fmt.Fprintf(i.stdout(), "ecs-init version %s (*%s)\n", i.version(), commit)
		return exitOK
	}
	if len(args) != 1 || commands[args[0]] == nil {
		fmt.Fprintln(i.stderr(), "Usage: amazon-ecs-init [version|pre-start|start|stop|pre-stop|post-stop|reload-cache]")
		return exitError
	}
	log.info(args[0])
	d, err := i.engine(ctx, log)
	if err == nil {
		err = commands[args[0]](ctx, d, log)
	}
	switch terminal := (*terminalError)(nil); {
	case err == nil:
		return exitOK
	case errors.As(err, &terminal):
		log.error(err.Error())
		return exitTerminal
	}
	log.error(err.Error())
	return initFailed
}

// terminalError is the agent's exit status 5.
type terminalError struct{}

func (*terminalError) Error() string { return "agent exited with terminal exit code: 5" }

// engine is what every command but version needs before it does anything: sysctl, iptables and Docker.
func (i *Init) engine(ctx context.Context, log logfmt) (*docker, error) {
	for _, tool := range []string{"sysctl", "iptables"} {
		if !i.inPath(tool) {
			return nil, fmt.Errorf("Error searching '%s' executable: exec: %q: executable file not found in $PATH", tool, tool)
		}
	}
	d := newDocker(i.socket())
	for try := 1; ; try++ {
		err := d.negotiate(ctx)
		if err == nil {
			return d, nil
		}
		log.error("Could not create docker client with API version 1.25: " + err.Error())
		if try == 5 || ctx.Err() != nil {
			return nil, fmt.Errorf("could not create docker client: %w", err)
		}
		log.info("Error connecting to docker, backing off")
		if err := i.pause(ctx, time.Duration(min(try, 3))*time.Second); err != nil {
			return nil, err
		}
	}
}

func (i *Init) inPath(tool string) bool {
	search := i.Env["PATH"]
	if search == "" {
		search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	for _, dir := range strings.Split(search, ":") {
		if info, err := os.Stat(i.path(path.Join(dir, tool))); err == nil && info.Mode()&0o111 != 0 {
			return true
		}
	}
	return false
}

// preStart loads the agent's image as the state of the cache says: 0 there is none, 1 loaded, 2 load it whatever is
// there.
func (i *Init) preStart(ctx context.Context, d *docker, log logfmt) error {
	text := strings.TrimSpace(i.readText(cacheState))
	info, err := os.Stat(i.follow(cachedImage))
	if text == "" || err != nil || info.Size() == 0 {
		text = "0"
	}
	switch state, err := strconv.Atoi(text); {
	case err == nil && state == 0: // the real one downloads it from AWS's buckets in us-east-1 here
		return errors.New("could not download Amazon Elastic Container Service Agent: the simulation has no buckets")
	case err == nil && state == 1:
		loaded, err := d.hasImage(ctx, agentImage)
		if err != nil || loaded {
			return err
		}
		return i.loadImage(ctx, d, cachedImage, log)
	case err == nil && state == 2:
		return i.loadImage(ctx, d, cachedImage, log)
	}
	return errors.New("could not handle cache state")
}

func (i *Init) reload(ctx context.Context, d *docker, log logfmt) error {
	return i.loadImage(ctx, d, cachedImage, log)
}

func (i *Init) loadImage(ctx context.Context, d *docker, file string, log logfmt) error {
	log.info("Loading Amazon Elastic Container Service Agent into Docker")
	f, err := os.Open(i.follow(file))
	if err != nil {
		return fmt.Errorf("could not load Amazon Elastic Container Service Agent into Docker: %w", err)
	}
	defer f.Close()
	if err := d.load(ctx, f); err != nil {
		return fmt.Errorf("could not load Amazon Elastic Container Service Agent into Docker: %w", err)
	}
	return i.writeFile(cacheState, []byte("1"), 0o644)
}

// follow resolves a symbolic link inside the root: the deb's is absolute.
func (i *Init) follow(file string) string {
	link, err := os.Readlink(i.path(file))
	if err != nil {
		return i.path(file) // not a link
	}
	if !path.IsAbs(link) {
		link = path.Join(path.Dir(file), link)
	}
	return i.path(link)
}

// start runs the agent's container, again and again with a growing pause, until it ends with 0 or for good.
func (i *Init) start(ctx context.Context, d *docker, log logfmt) error {
	backoff := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
		15 * time.Second}
	for failures := 0; ; {
		code, err := i.once(ctx, d, log)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		log.info(fmt.Sprintf("Agent exited with code %d", code))
		switch code {
		case exitOK:
			return nil
		case exitTerminal:
			return &terminalError{}
		case exitUpdate:
			name := strings.TrimSpace(i.readText(desiredImage))
			if err := i.loadImage(ctx, d, path.Join(path.Dir(desiredImage), path.Base(name)), log); err != nil {
				log.error("could not upgrade agent: " + err.Error())
			}
			continue
		}
		wait := backoff[min(failures, len(backoff)-1)]
		failures++
		wait += time.Duration(rand.Float64() * float64(wait) / 10)
		log.warn(fmt.Sprintf("ECS Agent failed to start, retrying in %s", wait))
		if err := i.pause(ctx, wait); err != nil {
			return err
		}
	}
}

func (i *Init) once(ctx context.Context, d *docker, log logfmt) (int, error) {
	if err := d.remove(ctx, agentContainer); err != nil {
		return 0, fmt.Errorf("could not remove existing Agent container: %w", err)
	}
	log.info("Starting Amazon Elastic Container Service Agent")
	id, err := d.create(ctx, agentContainer, i.containerSpec())
	if err == nil {
		err = d.start(ctx, id)
	}
	if err != nil {
		return 0, fmt.Errorf("could not start Agent: %w", err)
	}
	return d.wait(ctx, id)
}

func (i *Init) stop(ctx context.Context, d *docker, log logfmt) error {
	log.info("Stopping Amazon Elastic Container Service Agent")
	if err := d.stop(ctx, agentContainer, 10*time.Second); err != nil {
		return fmt.Errorf("could not stop Amazon Elastic Container Service Agent: %w", err)
	}
	return nil
}
