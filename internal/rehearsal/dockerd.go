package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/simagent"
)

// dockerd answers what the agents and the commands ask of Docker's API. The only container that it can run is the ECS
// agent's: as a goroutine, over a folder that has links where the container has mounts.
type dockerd struct {
	machine *machine
	version string
	driver  string
	socket  string
	server  *http.Server

	mu         sync.Mutex
	images     map[string]string // name to id
	containers map[string]*container
	made       int
}

type container struct {
	ID, Name, Image, Root string
	Env                   []string
	Labels                map[string]string
	status                string // created, running, exited
	exit                  int
	stop                  context.CancelFunc
	done                  chan struct{}
}

func (d *dockerd) listen(socket string) error {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("opening Docker's socket: %w", err)
	}
	d.socket, d.images, d.containers = socket, map[string]string{}, map[string]*container{}
	d.server = &http.Server{Handler: d.routes(), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = d.server.Serve(l) }() // it ends with ErrServerClosed at close
	return nil
}

func (d *dockerd) close() {
	d.mu.Lock()
	for _, c := range d.containers {
		if c.stop != nil {
			c.stop()
		}
	}
	d.mu.Unlock()
	_ = d.server.Close()
}

// versioned is the prefix of every call but the oldest.
var versioned = regexp.MustCompile(`^/v1\.[0-9]+`)

func (d *dockerd) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.47")
		_, _ = io.WriteString(w, "OK")
	})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"Version": d.version, "ApiVersion": "1.47", "MinAPIVersion": "1.24", "Os": "linux", "Arch": goarch(),
			"Components": []any{map[string]any{"Name": "Engine", "Version": d.version}},
		})
	})
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"ServerVersion": d.version, "Driver": "overlay2", "CgroupDriver": d.driver, "DockerRootDir": "/var/lib/docker",
			"SecurityOptions": []string{"name=seccomp,profile=builtin"}, "OperatingSystem": "rehearsal", "Name": "rehearsal",
		})
	})
	mux.HandleFunc("POST /images/load", d.loadImage)
	mux.HandleFunc("GET /images/", d.inspectImage)
	mux.HandleFunc("POST /containers/create", d.create)
	mux.HandleFunc("GET /containers/json", d.list)
	mux.HandleFunc("GET /containers/{id}/json", d.with(func(w http.ResponseWriter, _ *http.Request, c *container) {
		answer(w, c.inspection())
	}))
	mux.HandleFunc("POST /containers/{id}/start", d.with(d.start))
	mux.HandleFunc("POST /containers/{id}/stop", d.with(d.halt))
	mux.HandleFunc("POST /containers/{id}/kill", d.with(d.halt))
	mux.HandleFunc("POST /containers/{id}/wait", d.with(d.wait))
	mux.HandleFunc("DELETE /containers/{id}", d.with(d.remove))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = versioned.ReplaceAllString(r.URL.Path, "")
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body) // the client may be gone
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": fmt.Sprintf(format, args...)})
}

// loadImage takes any archive for the ECS agent's image: what is in it is not run here.
func (d *dockerd) loadImage(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		refuse(w, http.StatusBadRequest, "reading the image: %v", err)
		return
	}
	d.mu.Lock()
	d.made++
	d.images[ecsagent.Image] = fmt.Sprintf("sha256:%064x", d.made)
	d.mu.Unlock()
	answer(w, map[string]string{"stream": "Loaded image: " + ecsagent.Image + "\n"})
}

func (d *dockerd) inspectImage(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/images/"), "/json")
	d.mu.Lock()
	defer d.mu.Unlock()
	if name == "json" {
		var all []any
		for n, id := range d.images {
			all = append(all, map[string]any{"Id": id, "RepoTags": []string{n}})
		}
		answer(w, append([]any{}, all...))
		return
	}
	id, ok := d.images[name]
	if !ok {
		refuse(w, http.StatusNotFound, "No such image: %s", name)
		return
	}
	answer(w, map[string]any{"Id": id, "RepoTags": []string{name}})
}

func (d *dockerd) create(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Image      string
		Env        []string
		Labels     map[string]string
		HostConfig struct{ Binds []string }
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		refuse(w, http.StatusBadRequest, "reading the request: %v", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	name := r.URL.Query().Get("name")
	if _, known := d.images[body.Image]; !known {
		refuse(w, http.StatusNotFound, "No such image: %s", body.Image)
		return
	}
	for _, c := range d.containers {
		if c.Name == name {
			refuse(w, http.StatusConflict, "Conflict. The container name %q is already in use", "/"+name)
			return
		}
	}
	d.made++
	c := &container{ID: fmt.Sprintf("%064x", d.made), Name: name, Image: body.Image, Env: body.Env, Labels: body.Labels, status: "created"}
	c.Root = filepath.Join(d.machine.sockets, "c"+fmt.Sprint(d.made))
	if err := d.machine.mount(c.Root, body.HostConfig.Binds); err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	d.containers[c.ID] = c
	w.WriteHeader(http.StatusCreated)
	answer(w, map[string]any{"Id": c.ID, "Warnings": []string{}})
}

// mount makes the container's folder: links in place of mounts. A source that is missing is made, as Docker does.
func (m *machine) mount(root string, binds []string) error {
	for _, bind := range binds {
		parts := strings.Split(bind, ":")
		if len(parts) < 2 || parts[0] == "/var/run" || strings.HasSuffix(parts[0], ".sock") || strings.HasPrefix(parts[0], "/proc") ||
			strings.HasPrefix(parts[0], "/sys") || strings.HasPrefix(parts[0], "/dev") {
			continue
		}
		source, target := local(m, parts[0]), filepath.Join(root, filepath.FromSlash(path.Clean(parts[1])))
		if _, err := os.Stat(source); os.IsNotExist(err) {
			if err := os.MkdirAll(source, 0o755); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(source, target); err != nil && !os.IsExist(err) {
			return err
		}
	}
	return os.MkdirAll(root, 0o755)
}

func (d *dockerd) with(handle func(http.ResponseWriter, *http.Request, *container)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		d.mu.Lock()
		var found *container
		for _, c := range d.containers {
			if c.ID == id || c.Name == id || len(id) >= 12 && strings.HasPrefix(c.ID, id) {
				found = c
			}
		}
		d.mu.Unlock()
		if found == nil {
			refuse(w, http.StatusNotFound, "No such container: %s", id)
			return
		}
		handle(w, r, found)
	}
}

func (d *dockerd) start(w http.ResponseWriter, _ *http.Request, c *container) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.status == "running" {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	c.status, c.stop, c.done = "running", stop, make(chan struct{})
	env := map[string]string{}
	for _, e := range c.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	agent := &simagent.ECSAgent{Place: d.machine.place(c.Root, env), Listen: d.machine.openIntrospection}
	go func() {
		status := agent.Main(ctx, nil)
		d.mu.Lock()
		c.status, c.exit = "exited", status
		d.mu.Unlock()
		close(c.done)
	}()
	w.WriteHeader(http.StatusNoContent)
}

func (d *dockerd) halt(w http.ResponseWriter, _ *http.Request, c *container) {
	d.stopped(c)
	w.WriteHeader(http.StatusNoContent)
}

func (d *dockerd) stopped(c *container) {
	d.mu.Lock()
	stop, done := c.stop, c.done
	d.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
}

func (d *dockerd) wait(w http.ResponseWriter, r *http.Request, c *container) {
	d.mu.Lock()
	done := c.done
	d.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK) // at once, as Docker does: the body comes with the end
	_ = http.NewResponseController(w).Flush()
	if done != nil {
		select {
		case <-done:
		case <-r.Context().Done():
			return
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]int{"StatusCode": c.exit})
}

func (d *dockerd) remove(w http.ResponseWriter, _ *http.Request, c *container) {
	d.stopped(c)
	d.mu.Lock()
	delete(d.containers, c.ID)
	d.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (c *container) inspection() map[string]any {
	return map[string]any{
		"Id": c.ID, "Name": "/" + c.Name, "Image": c.Image,
		"State":  map[string]any{"Status": c.status, "Running": c.status == "running", "ExitCode": c.exit},
		"Config": map[string]any{"Env": c.Env, "Labels": c.Labels, "Image": c.Image},
	}
}

func (d *dockerd) list(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := []any{}
	for _, c := range d.containers {
		all = append(all, map[string]any{"Id": c.ID, "Names": []string{"/" + c.Name}, "Image": c.Image, "State": c.status, "Labels": c.Labels})
	}
	answer(w, all)
}
