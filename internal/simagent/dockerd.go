package simagent

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Container is what the simulated Docker runs.
type Container struct {
	ID, Name, Image string
	Labels          map[string]string // the image's
	Env             map[string]string
	// Root is a folder with a symbolic link for every bind, so that a program given it for "/" sees what the container
	// would.
	Root string
}

// Dockerd is as much of a Docker daemon as ecs-init, the agent and a look at its version need. A container is a call of
// Run, in a goroutine.
type Dockerd struct {
	Root    string // the host's root, which the binds are relative to
	Scratch string // where the containers' roots are made
	// Run is the program of every container. The end of ctx is SIGTERM; what it returns is the exit status.
	Run func(ctx context.Context, c Container) int

	Version string // of the engine; empty means 27.3.1
	API     string // the newest that it speaks; empty means 1.47
	MinAPI  string // the oldest; empty means 1.24
	Cgroup1 bool   // control groups v1 with the cgroupfs driver, not v2 with systemd's

	mu         sync.Mutex
	images     map[string]*loaded // by id
	containers map[string]*running
	next       int
	live       sync.WaitGroup
}

// loaded is an image.
type loaded struct {
	names  []string
	labels map[string]string
}

type running struct {
	Container
	imageID   string
	binds     []string
	cancel    context.CancelFunc // nil before start
	done      chan struct{}
	code      int
	started   bool
	createdAt time.Time
	startedAt time.Time
}

// Serve answers on l until ctx ends, then stops every container and waits for it.
func (d *Dockerd) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: d.handler(ctx), ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(l)
	d.live.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (d *Dockerd) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /_ping": d.ping, "HEAD /_ping": d.ping, "GET /version": d.serveVersion, "GET /info": d.serveInfo,
		"POST /images/load": d.serveLoad, "GET /images/{owner}/{name}/json": d.serveImage,
		"GET /images/{id}/json": d.serveImage, "POST /images/{id}/tag": d.serveTag, "DELETE /images/{id}": d.serveForget,
		"GET /images/json": d.serveImages, "GET /containers/json": d.serveList, "POST /containers/create": d.serveCreate,
		"POST /containers/{id}/start": func(w http.ResponseWriter, r *http.Request) { d.serveStart(ctx, w, r) },
		"POST /containers/{id}/wait":  d.serveWait, "POST /containers/{id}/stop": d.serveStop,
		"GET /containers/{id}/json": d.serveInspect, "DELETE /containers/{id}": d.serveRemove,
	} {
		mux.HandleFunc(pattern, h)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/v1."); ok {
			_, tail, _ := strings.Cut(rest, "/")
			r.URL.Path = "/" + tail
		}
		mux.ServeHTTP(w, r)
	})
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone if it fails
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	writeJSON(w, status, map[string]string{"message": fmt.Sprintf(format, args...)})
}

func (d *Dockerd) ping(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Api-Version", orElse(d.API, "1.47"))
	_, _ = io.WriteString(w, "OK")
}

func (d *Dockerd) serveVersion(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"Version": orElse(d.Version, "27.3.1"), "ApiVersion": orElse(d.API, "1.47"),
		"MinAPIVersion": orElse(d.MinAPI, "1.24"), "Os": "linux", "Arch": "amd64",
		"Platform":   map[string]string{"Name": "Docker Engine - Community"},
		"Components": []map[string]string{{"Name": "Engine", "Version": orElse(d.Version, "27.3.1")}},
	})
}

func (d *Dockerd) serveInfo(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	driver, cgroup := "systemd", "2"
	if d.Cgroup1 {
		driver, cgroup = "cgroupfs", "1"
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"ID": "simulated", "Containers": len(d.containers), "Images": len(d.images), "Driver": "overlay2",
		"CgroupDriver": driver, "CgroupVersion": cgroup, "ServerVersion": orElse(d.Version, "27.3.1"), "OSType": "linux",
		"DockerRootDir": "/var/lib/docker", "LiveRestoreEnabled": false,
		"SecurityOptions": []string{"name=seccomp,profile=builtin", "name=cgroupns"},
	})
}

// serveLoad reads the tags and labels of an image; the layers are read and left alone.
func (d *Dockerd) serveLoad(w http.ResponseWriter, r *http.Request) {
	var manifest []struct {
		Config   string
		RepoTags []string
	}
	documents := map[string][]byte{}
	for archive := tar.NewReader(r.Body); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			refuse(w, http.StatusInternalServerError, "%v", err)
			return
		}
		if strings.HasSuffix(header.Name, ".json") {
			if documents[header.Name], err = io.ReadAll(archive); err != nil {
				refuse(w, http.StatusInternalServerError, "%v", err)
				return
			}
		}
	}
	if err := json.Unmarshal(documents["manifest.json"], &manifest); err != nil {
		refuse(w, http.StatusInternalServerError, "invalid manifest.json: %v", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.images == nil {
		d.images = map[string]*loaded{}
	}
	for _, image := range manifest {
		var config struct {
			Config struct{ Labels map[string]string }
		}
		if err := json.Unmarshal(documents[image.Config], &config); err != nil {
			refuse(w, http.StatusInternalServerError, "invalid image configuration: %v", err)
			return
		}
		id := "sha256:" + strings.TrimSuffix(image.Config, ".json")
		if d.images[id] == nil {
			d.images[id] = &loaded{labels: config.Config.Labels}
		}
		for _, name := range image.RepoTags {
			d.setName(id, name)
		}
	}
	writeJSON(w, http.StatusOK, map[string]string{"stream": "Loaded image: " + agentImage + "\n"})
}

// setName gives an image a name, which another loses by that.
func (d *Dockerd) setName(id, name string) {
	for _, image := range d.images {
		image.names = slices.DeleteFunc(image.names, func(n string) bool { return n == name })
	}
	d.images[id].names = append(d.images[id].names, name)
}

// named finds an image by its id or one of its names.
func (d *Dockerd) named(name string) (id string, image *loaded) {
	for id, image := range d.images {
		if id == name || slices.Contains(image.names, name) {
			return id, image
		}
	}
	return "", nil
}

func imageOf(r *http.Request) string {
	if id := r.PathValue("id"); id != "" {
		return id
	}
	return r.PathValue("owner") + "/" + r.PathValue("name")
}

func (d *Dockerd) serveImage(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, image := d.named(imageOf(r))
	if image == nil {
		refuse(w, http.StatusNotFound, "No such image: %s", imageOf(r))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"Id": id, "RepoTags": append([]string{}, image.names...), "Config": map[string]any{"Labels": image.labels},
	})
}

func (d *Dockerd) serveTag(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, image := d.named(imageOf(r))
	if image == nil {
		refuse(w, http.StatusNotFound, "No such image: %s", imageOf(r))
		return
	}
	d.setName(id, r.URL.Query().Get("repo")+":"+r.URL.Query().Get("tag"))
	w.WriteHeader(http.StatusCreated)
}

// serveForget removes an image; one of a container that runs stays, whatever the force.
func (d *Dockerd) serveForget(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id, image := d.named(imageOf(r))
	if image == nil {
		refuse(w, http.StatusNotFound, "No such image: %s", imageOf(r))
		return
	}
	for _, c := range d.containers {
		if c.imageID == id && (c.state() == "running" || r.URL.Query().Get("force") == "") {
			refuse(w, http.StatusConflict, "conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", id, c.ID)
			return
		}
	}
	delete(d.images, id)
	writeJSON(w, http.StatusOK, []map[string]string{{"Deleted": id}})
}

func (d *Dockerd) serveImages(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []any{}
	for id, image := range d.images {
		list = append(list, map[string]any{"Id": id, "RepoTags": append([]string{}, image.names...)})
	}
	writeJSON(w, http.StatusOK, list)
}

func (d *Dockerd) serveList(w http.ResponseWriter, r *http.Request) {
	var filters struct{ Label []string }
	if given := r.URL.Query().Get("filters"); given != "" {
		if err := json.Unmarshal([]byte(given), &filters); err != nil {
			refuse(w, http.StatusBadRequest, "invalid filter: %v", err)
			return
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	list := []any{}
	for _, c := range d.containers {
		if state := c.state(); (state == "running" || r.URL.Query().Get("all") != "") && c.labelled(filters.Label) {
			list = append(list, map[string]any{
				"Id": c.ID, "Names": []string{"/" + c.Name}, "Image": c.Image, "ImageID": c.imageID, "State": state, "Labels": c.Labels,
			})
		}
	}
	writeJSON(w, http.StatusOK, list)
}

// labelled reports whether the container has all of the labels, each "name" or "name=value".
func (c *running) labelled(wanted []string) bool {
	for _, want := range wanted {
		name, value, exact := strings.Cut(want, "=")
		if has, ok := c.Labels[name]; !ok || exact && has != value {
			return false
		}
	}
	return true
}

func (d *Dockerd) serveCreate(w http.ResponseWriter, r *http.Request) {
	var spec containerSpec
	if err := json.NewDecoder(r.Body).Decode(&spec); err != nil {
		refuse(w, http.StatusBadRequest, "%v", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	id, image := d.named(spec.Image)
	name := r.URL.Query().Get("name")
	switch {
	case image == nil:
		refuse(w, http.StatusNotFound, "No such image: %s", spec.Image)
		return
	case d.find(name) != nil:
		refuse(w, http.StatusConflict, "Conflict. The container name \"/%s\" is already in use", name)
		return
	}
	d.next++
	c := &running{
		Container: Container{
			ID: fmt.Sprintf("%064x", d.next), Name: name, Image: spec.Image, Labels: image.labels, Env: map[string]string{},
			Root: filepath.Join(d.Scratch, fmt.Sprintf("%s-%d", name, d.next)),
		},
		imageID: id, binds: spec.HostConfig.Binds, done: make(chan struct{}), createdAt: time.Now(),
	}
	for _, pair := range spec.Env {
		key, value, _ := strings.Cut(pair, "=")
		c.Env[key] = value
	}
	if err := d.bind(c); err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	if d.containers == nil {
		d.containers = map[string]*running{}
	}
	d.containers[c.ID] = c
	writeJSON(w, http.StatusCreated, map[string]any{"Id": c.ID, "Warnings": []string{}})
}

// bind makes the container's root. A source that is missing becomes an empty folder on the host, as Docker has it; a
// target below another bind is there already.
func (d *Dockerd) bind(c *running) error {
	for _, b := range c.binds {
		source, target, _ := strings.Cut(b, ":")
		target, _, _ = strings.Cut(target, ":")
		from, to := filepath.Join(d.Root, source), filepath.Join(c.Root, target)
		if err := os.MkdirAll(from, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Symlink(from, to); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Join(c.Root, "tmp"), 0o755)
}

func (d *Dockerd) serveStart(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.find(r.PathValue("id"))
	if c == nil {
		refuse(w, http.StatusNotFound, "No such container: %s", r.PathValue("id"))
		return
	}
	if c.started {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	var life context.Context
	life, c.cancel = context.WithCancel(ctx)
	c.started, c.startedAt = true, time.Now()
	d.live.Go(func() {
		code := d.Run(life, c.Container)
		d.mu.Lock()
		c.code = code
		d.mu.Unlock()
		close(c.done)
	})
	w.WriteHeader(http.StatusNoContent)
}

func (d *Dockerd) serveWait(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	c := d.find(r.PathValue("id"))
	d.mu.Unlock()
	if c == nil {
		refuse(w, http.StatusNotFound, "No such container: %s", r.PathValue("id"))
		return
	}
	select {
	case <-r.Context().Done():
	case <-c.done:
		d.mu.Lock()
		defer d.mu.Unlock()
		writeJSON(w, http.StatusOK, map[string]int{"StatusCode": c.code})
	}
}

func (d *Dockerd) serveStop(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	c := d.find(r.PathValue("id"))
	d.mu.Unlock()
	if c == nil {
		refuse(w, http.StatusNotFound, "No such container: %s", r.PathValue("id"))
		return
	}
	d.halt(c)
	w.WriteHeader(http.StatusNoContent)
}

// halt ends a container and waits for it.
func (d *Dockerd) halt(c *running) {
	d.mu.Lock()
	started, cancel := c.started, c.cancel
	d.mu.Unlock()
	if started {
		cancel()
		<-c.done
	}
}

func (d *Dockerd) serveRemove(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	c := d.find(r.PathValue("id"))
	d.mu.Unlock()
	if c == nil {
		refuse(w, http.StatusNotFound, "No such container: %s", r.PathValue("id"))
		return
	}
	d.halt(c)
	d.mu.Lock()
	delete(d.containers, c.ID)
	d.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (d *Dockerd) serveInspect(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.find(r.PathValue("id"))
	if c == nil {
		refuse(w, http.StatusNotFound, "No such container: %s", r.PathValue("id"))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"Id": c.ID, "Name": "/" + c.Name, "Image": c.imageID, "Created": c.createdAt.UTC().Format(time.RFC3339Nano),
		"State":      map[string]any{"Status": c.state(), "Running": c.state() == "running", "ExitCode": c.code, "StartedAt": c.startedAt.UTC().Format(time.RFC3339Nano)},
		"Config":     map[string]any{"Image": c.Image, "Labels": c.Labels},
		"HostConfig": map[string]any{"NetworkMode": "host", "Binds": c.binds},
	})
}

func (c *running) state() string {
	select {
	case <-c.done:
		return "exited"
	default:
	}
	if c.started {
		return "running"
	}
	return "created"
}

func (d *Dockerd) find(idOrName string) *running {
	for id, c := range d.containers {
		if id == idOrName || c.Name == path.Base(idOrName) {
			return c
		}
	}
	return nil
}
