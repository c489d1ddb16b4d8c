package simagent

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
)

// VersionLabel is the label of an image that says which version of the agent it is.
const VersionLabel = "simagent.version"

// FaultLabel and FaultVariable tell the agent in an image what it does wrong, VersionVariable which version it is.
const (
	FaultLabel      = "simagent.fault"
	FaultVariable   = "SIMAGENT_FAULT"
	VersionVariable = "SIMAGENT_VERSION"
)

// Image is a Docker image of the agent, as ecs-init loads it: one layer around a static binary.
type Image struct {
	Binary  []byte // static; it becomes /agent
	Arch    string // Docker's name: amd64 or arm64; empty means amd64
	Version string // of the agent; it becomes VersionLabel
	Fault   string // of the agent; it becomes FaultLabel and the variable FaultVariable
}

// WriteTo streams the image as a tar for "docker load". The same image gives the same bytes.
func (i Image) WriteTo(w io.Writer) (int64, error) {
	arch := i.Arch
	if arch == "" {
		arch = "amd64"
	}
	hash, size := sha256.New(), &counter{}
	if err := i.layer(io.MultiWriter(hash, size)); err != nil {
		return 0, err
	}
	diffID := hex.EncodeToString(hash.Sum(nil))
	env, labels := []string{"PATH=/", VersionVariable + "=" + i.Version}, map[string]string{VersionLabel: i.Version}
	if i.Fault != "" {
		env, labels[FaultLabel] = append(env, FaultVariable+"="+i.Fault), i.Fault
	}
	config, err := json.Marshal(map[string]any{
		"architecture": arch, "os": "linux",
		"config": map[string]any{
			"Entrypoint": []string{"/agent"}, "Env": env, "Labels": labels,
		},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + diffID}},
	})
	if err != nil {
		return 0, err
	}
	sum := sha256.Sum256(config)
	configName, layerName := hex.EncodeToString(sum[:])+".json", diffID+"/layer.tar"
	manifest, err := json.Marshal([]map[string]any{{
		"Config": configName, "RepoTags": []string{agentImage}, "Layers": []string{layerName},
	}})
	if err != nil {
		return 0, err
	}
	total := &counter{}
	out := tar.NewWriter(io.MultiWriter(w, total))
	for _, file := range []struct {
		name string
		data []byte
	}{{"manifest.json", manifest}, {configName, config}} {
		if err := addFile(out, file.name, file.data, 0o644); err != nil {
			return total.n, err
		}
	}
	if err := out.WriteHeader(&tar.Header{Name: diffID + "/", Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
		return total.n, err
	}
	if err := out.WriteHeader(&tar.Header{Name: layerName, Mode: 0o644, Size: size.n}); err != nil {
		return total.n, err
	}
	if err := i.layer(out); err != nil {
		return total.n, err
	}
	err = out.Close()
	return total.n, err
}

// layer writes the file system: the binary, and folders for the binds.
func (i Image) layer(w io.Writer) error {
	out := tar.NewWriter(w)
	for _, dir := range []string{"data/", "log/", "etc/", "var/", "tmp/"} {
		if err := out.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := addFile(out, "agent", i.Binary, 0o755); err != nil {
		return err
	}
	return out.Close()
}

func addFile(w *tar.Writer, name string, data []byte, mode int64) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
