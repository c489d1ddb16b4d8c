package lifecycle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/anywhere-ecs/anywhere/internal/docker"
	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// newFile is the program's own way to make an archive's file.
func newFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// bundled is what an archive has, by name below its folder.
func bundled(t *testing.T, path string) map[string]string {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(unpacked); ; {
		head, err := archive.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		name, below := strings.CutPrefix(head.Name, bundleFolder)
		if !below || strings.Contains(name, "..") || head.Typeflag != tar.TypeReg || head.Mode != 0o600 {
			t.Errorf("%+v", head)
		}
		if _, twice := files[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		files[name] = string(text)
	}
}

// The secrets that are planted. Those of the first kind can be told by their looks or their labels; those of the second
// only because the host keeps them somewhere.
var (
	looks = map[string]string{
		"secret key":      "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
		"access key":      "ASIAIOSFODNN7EXAMPLE",
		"session token":   "IQoJb3JpZ2luX2VjEXAMPLE" + strings.Repeat("aB3/x9", 40),
		"join token":      "anywhere1." + strings.Repeat("eyJhY2NvdW50Ij", 4),
		"activation code": "Kx7Tz2Lm9QwErTyUiOpA",
		"signature":       "5f2b7a1c9d8e4f60aa11bb22cc33dd44",
		"password":        "correct-horse-7",
		"proxy password":  "s3cr3t-proxy-pw",
		"pem":             "MIIEowIBAAKCAQEAexamplePRIVATEkeyBODY0123456789abcdefghijkl",
		"web token":       "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
		"bearer":          "opaque-bearer-value-1",
		"registry auth":   base64.StdEncoding.EncodeToString([]byte("robot:registry-pw-1")),
	}
	kept = map[string]string{
		"credentials": "not-a-real-secret", "session": "not-a-real-token", "registry": "registry-pw-1", "environment": "from-the-environment",
		"auth data": "pull-secret-9",
	}
	plantedAccount = "444455556666"
)

// planted is a text that has all of them, as logs and files have them.
func planted() string {
	var b strings.Builder
	for _, line := range []string{
		"the key " + looks["secret key"] + " of " + looks["access key"],
		`{"AccessKeyId":"` + looks["access key"] + `","SecretAccessKey":"` + looks["secret key"] + `","SessionToken":"` + looks["session token"] + `"}`,
		"anywhere register --token " + looks["join token"],
		"amazon-ssm-agent -register -y -code " + looks["activation code"] + " -id 8f14e45f",
		`activationCode=` + looks["activation code"] + ` "ActivationCode": "` + looks["activation code"] + `"`,
		"Authorization: AWS4-HMAC-SHA256 Credential=" + looks["access key"] + "/20261122/eu-central-1/ecs/aws4_request, Signature=" + looks["signature"],
		"GET https://s3/x?X-Amz-Signature=" + looks["signature"],
		"registry_password: " + looks["password"] + ` {\"password\":\"` + looks["password"] + `\"}`,
		"HTTPS_PROXY=http://user:" + looks["proxy password"] + "@proxy.example:3128",
		`ECS_ENGINE_AUTH_DATA={"https://r.example":{"username":"robot","password":"` + kept["auth data"] + `"}}`,
		`{"auths":{"r.example":{"auth":"` + looks["registry auth"] + `"}}}`,
		"Authorization: Bearer " + looks["bearer"], "sent bearer " + looks["bearer"],
		"a web token " + looks["web token"],
		"-----BEGIN RSA PRIVATE KEY----- " + looks["pem"] + " -----END RSA PRIVATE KEY-----",
		"arn:aws:ecs:eu-central-1:" + account + ":cluster/shop and " + plantedAccount,
	} {
		b.WriteString(line + "\n")
	}
	for _, secret := range kept { // bare, and in base64
		b.WriteString("bare " + secret + " and " + base64.StdEncoding.EncodeToString([]byte(secret)) + "\n")
	}
	b.WriteString("the vault's " + privateKey() + "\n")
	return b.String()
}

// forbidden are all planted secrets, and their base64.
func forbidden() map[string]string {
	all := map[string]string{"account": account, "other account": plantedAccount, "vault": privateKey(), "half of the vault's key": privateKey()[200:400]}
	for _, secrets := range []map[string]string{looks, kept} {
		for name, secret := range secrets {
			all[name] = secret
			all[name+" in base64"] = strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "=")
		}
	}
	return all
}

// Secrets of every kind are planted in every file that goes into the archive, in Docker's answers, the journal and the
// environment, and none comes out of it.
func TestBundleHasNoSecrets(t *testing.T) {
	p := newHealthy(t)
	text := planted()
	logLines := func(format func(string) string) string {
		var b strings.Builder
		for line := range strings.Lines(text) {
			b.WriteString(format(strings.TrimSpace(line)))
		}
		return b.String()
	}
	forECS := logLines(func(line string) string { return logged(noon, line) + line + "\n" })
	forSSM := logLines(func(line string) string { return ssmLine(noon, "ERROR "+line) })
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write([]byte(forECS)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p.write("/root/.docker/config.json", `{"auths":{"r.example":{"auth":"`+looks["registry auth"]+`"}}}`)
	for file, content := range map[string]string{
		ecsagent.ConfigPath: "ECS_CLUSTER=shop\nAWS_DEFAULT_REGION=" + region + "\nECS_EXTERNAL=true\nAWS_SECRET_ACCESS_KEY=" + looks["secret key"] +
			"\nHTTPS_PROXY=http://user:" + looks["proxy password"] + "@proxy.example:3128\n" +
			`ECS_ENGINE_AUTH_DATA={"https://r.example":{"username":"robot","password":"` + kept["auth data"] + `"}}` + "\n#" + strings.ReplaceAll(text, "\n", "\n#") + "\n",
		ecsagent.InstanceConfigPath: text,
		ecsagent.JSONConfigPath: `{"Cluster":"shop","EngineAuthData":{"https://r.example":{"password":"` + kept["auth data"] + `"}},"x":` +
			string(mustJSON(t, text)) + `}`,
		ssmagent.ConfigPath: text, "/etc/docker/daemon.json": text, "/etc/anywhere/config.yaml": text, recordPath: text, defaultLog: text,
		DataDir + "/journal/20261122-register-run-0.jsonl": text,
		ecsagent.DropInPath: string(ecsagent.DropIn()) + text, "/proc/cmdline": text, "/etc/resolv.conf": text, "/proc/self/mounts": text,
		ecsagent.InitLogPath: forECS, ecsagent.LogPath + ".1": forECS, ecsagent.LogPath + ".2.gz": packed.String(), ecsagent.LogDir + "/audit.log": text,
		ecsagent.LogDir + "/ecs-volume-plugin.log": text, ssmagent.ErrorLogPath: forSSM, ssmagent.LogPath + ".1": forSSM,
		ssmagent.LogDir + "/hibernate.log": forSSM, ssmagent.LogDir + "/AmazonSSMAgent-update.txt": text, ssmagent.LogDir + "/ssm-setup-cli.log": text,
		ssmagent.RegistrationPath: text,
	} {
		p.write(file, content)
	}
	p.log = append(p.log, forECS)
	p.journal = map[string][]string{"docker.service": strings.Split(text, "\n"), ecsagent.Unit: {text}, unitKernel: {text}}
	p.docker["/info"] = `{"HttpProxy":"http://user:` + looks["proxy password"] + `@proxy.example","Name":` + string(mustJSON(t, text)) + `,"MemTotal":123456789012}`
	p.docker["/containers/ecs-agent/json"] = `{"Image":"` + imageID + `","Config":{"Env":["X=` + looks["password"] + `-of-the-environment"],"Labels":{"a":` +
		string(mustJSON(t, text)) + `}},"Args":["x"],"State":{"Status":"running"}}`

	d := p.deps()
	d.Host.Runner = &journalRunner{p: p}
	d.Getenv = func(name string) string {
		return map[string]string{"AWS_SECRET_ACCESS_KEY": kept["environment"], "https_proxy": "http://u:" + looks["proxy password"] + "@p"}[name]
	}
	archive := filepath.Join(t.TempDir(), "support.tar.gz")
	report, err := Doctor(t.Context(), d, DoctorRequest{Offline: true, Bundle: archive, NewFile: newFile})
	if err != nil {
		t.Fatal(err)
	}
	files := bundled(t, archive)
	for name, content := range files {
		for kind, secret := range forbidden() {
			if strings.Contains(content, secret) || strings.Contains(name, secret) {
				i := max(strings.Index(content, secret), 0)
				t.Errorf("%s has the %s: …%q…", name, kind, content[max(i-60, 0):min(i+60, len(content))])
			}
		}
		if strings.Contains(content, "of-the-environment") {
			t.Errorf("%s has the container's environment", name)
		}
	}
	for _, name := range []string{
		"doctor.json", "status.json", "preflight.json", "units.json", "facts.json", "docker.json", "manifest.json", "journal/docker.service.txt",
		"files" + ecsagent.ConfigPath, "files" + ecsagent.LogPath, "files" + ecsagent.LogPath + ".2", "files" + ssmagent.LogPath, "files" + recordPath,
		"files" + DataDir + "/journal/20261122-register-run-0.jsonl", "files/etc/os-release", "files" + ecsagent.DropInPath,
	} {
		if files[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	for name, content := range files {
		if strings.HasSuffix(name, ".json") && !strings.HasPrefix(name, "files/") && !json.Valid([]byte(content)) {
			t.Errorf("%s is no JSON any more", name)
		}
		if strings.Contains(name, "Vault") || strings.Contains(name, ".aws") {
			t.Errorf("%s has no business there", name)
		}
	}
	if !strings.Contains(files["docker.json"], "123456789012") {
		t.Error("a number is taken for an account")
	}
	if log := files["files"+ecsagent.InitLogPath]; !strings.Contains(log, "cluster:ACCOUNT-") && !strings.Contains(log, ":ACCOUNT-") {
		t.Errorf("accounts are not named: %s", log)
	}
	info, err := os.Stat(archive)
	result := report.Result.(DoctorResult)
	if err != nil || info.Mode().Perm() != 0o600 || result.Bundle == nil || result.Bundle.Bytes != info.Size() || result.Bundle.Files != len(files) || result.Bundle.Path != archive {
		t.Errorf("%+v, %v, %v", result.Bundle, info, err)
	}
}

func mustJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// An archive has a bound, whatever the host has, and says what it left out.
func TestBundleIsBounded(t *testing.T) {
	p := newHealthy(t)
	line := logged(noon, strings.Repeat("some words of a log. ", 40))
	big := strings.Repeat(line, 3<<20/len(line))
	for i := range 5 {
		p.write(fmt.Sprintf("%s.%d", ecsagent.LogPath, i+1), big)
	}
	p.log = append(p.log, big)
	p.write(ssmagent.LogPath, strings.Repeat(ssmLine(noon, "INFO "+strings.Repeat("words ", 50)), 20000))
	for i := range 100 { // journals of operations
		p.write(fmt.Sprintf("%s/journal/20261122-register-run-%d.jsonl", DataDir, i), strings.Repeat("words and words\n", 20000))
	}
	archive := filepath.Join(t.TempDir(), "support.tar.gz")
	if _, err := Doctor(t.Context(), p.deps(), DoctorRequest{Offline: true, Bundle: archive, NewFile: newFile}); err != nil {
		t.Fatal(err)
	}
	total := 0
	files := bundled(t, archive)
	for _, content := range files {
		total += len(content)
	}
	if total > bundleMost+bundleSmall {
		t.Errorf("%d bytes", total)
	}
	var manifest struct{ Files []bundleEntry }
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	status := map[string]bool{}
	for _, f := range manifest.Files {
		status[f.Status] = true
		if f.Status != "included" && f.Why == "" {
			t.Errorf("%+v", f)
		}
	}
	if !status["included"] || !status["cut"] || !status["left out"] {
		t.Errorf("%v", status)
	}
}

// What cannot be read is named, and the rest is there.
func TestBundleOfAHalfBlindHost(t *testing.T) {
	p := newHealthy(t)
	p.files, p.denied = forRoot{Files: host.NewDir(p.root)}, true
	d := p.deps()
	d.Host.Self.EUID = 1000
	archive := filepath.Join(t.TempDir(), "support.tar.gz")
	if _, err := Doctor(t.Context(), d, DoctorRequest{Offline: true, Bundle: archive, NewFile: newFile}); err != nil {
		t.Fatal(err)
	}
	files := bundled(t, archive)
	if files["files"+ecsagent.LogPath] == "" || files["doctor.json"] == "" {
		t.Errorf("what can be read is not there: %v", files)
	}
	var manifest struct{ Files []bundleEntry }
	if err := json.Unmarshal([]byte(files["manifest.json"]), &manifest); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{ecsagent.ConfigPath, ssmagent.LogPath, docker.Socket, "journalctl"} {
		if !slices.ContainsFunc(manifest.Files, func(f bundleEntry) bool { return f.Source == source && f.Status == "unreadable" && f.Why != "" }) {
			t.Errorf("%s is not told: %s", source, files["manifest.json"])
		}
	}
}

func TestBundleOverwritesNothing(t *testing.T) {
	folder := t.TempDir()
	there, link := filepath.Join(folder, "there.tar.gz"), filepath.Join(folder, "link.tar.gz")
	if err := os.WriteFile(there, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(folder, "target"), link); err != nil { // leads nowhere yet
		t.Fatal(err)
	}
	p := newHealthy(t)
	for _, path := range []string{there, link} {
		if _, err := Doctor(t.Context(), p.deps(), DoctorRequest{Offline: true, Bundle: path, NewFile: newFile}); !failure.Is(err, failure.Usage) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if text, err := os.ReadFile(there); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
	if entries, err := os.ReadDir(folder); err != nil || len(entries) != 2 {
		t.Errorf("%v, %v", entries, err)
	}
}
