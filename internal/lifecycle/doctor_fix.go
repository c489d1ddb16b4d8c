package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/ecsagent"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
	"github.com/anywhere-ecs/anywhere/internal/ssmagent"
)

// DoctorFix is a safe remedy that is due.
type DoctorFix struct {
	ID     string `json:"id"`     // stable id; docs/doctor.md has them all
	Title  string `json:"title"`  // what it does
	Detail string `json:"detail"` // what is due
	Status string `json:"status"` // possible without --fix, planned in a dry run; done, skipped, failed, undone or kept with it
}

// Fix is a remedy that --fix may apply by itself: it touches no task, no container, neither Docker nor the registration, and
// can be undone.
type Fix struct {
	ID, Title string
	Words     string // what it does and why that is safe, for the documentation
	// due says what is to be done; empty when nothing is. It only looks.
	due func(ctx context.Context, r host.Reader, ecsUnit string) (string, error)
	do  func(ctx context.Context, d Deps, tx *engine.Tx, ecsUnit string) error
	// rules of status that the remedy can mend.
	rules []string
	// remedy is what to type instead.
	remedy string
	code   failure.Code
}

// Fixes are the safe remedies, in the order in which they are applied: files before the services that read them.
var Fixes = []Fix{
	{
		ID: "secrets.modes", Title: "Close files with secrets to others", code: failure.AgentConfig,
		Words: "A configuration file of the ECS agent that has a secret in it (a registry's password, a key) and " +
			"can be read by others " +
			"than root gets mode 0600. Its readers are root.",
		due: openSecrets, do: closeSecrets, remedy: "chmod 0600 " + ecsagent.ConfigPath + " " + ecsagent.InstanceConfigPath,
	},
	{
		ID: "ecs.external", Title: "Write " + ecsagent.KeyExternal + " as the ECS agent and ecs-init both read it", code: failure.AgentConfig,
		Words: "`" + ecsagent.KeyExternal + "` that is quoted or written otherwise (`\"true\"`, `True`, `1`) " +
			"becomes `true` on a host that is a managed " +
			"node. One of its two readers does not understand the other forms and takes the host for an EC2 instance.",
		due: externalUnread, do: writeExternal, remedy: "write " + ecsagent.KeyExternal + "=true, unquoted, to " + ecsagent.ConfigPath +
			"; then systemctl restart ecs", rules: []string{"ecs.instance"},
	},
	{
		ID: "ecs.folders", Title: "Make folders that the ECS agent needs", code: failure.AgentConfig,
		Words: "The empty folder of the agent's state, and that of ECS Exec's configuration where its programs are " +
			"there. " +
			"The agent dies without the one and does not offer ECS Exec without the other.",
		due: missingFolders, do: makeFolders, remedy: "mkdir -p " + ecsagent.DataDir + " " + ecsagent.ExecDir + "/config",
	},
	{
		ID: "ecs.cache", Title: "Let ecs-init load the agent's image anew", code: failure.ServiceFailed,
		Words: "`" + ecsagent.CacheState + "` that holds no number which ecs-init knows becomes 2: load the " +
			"package's image. " +
			"Only where that image is there.",
		due: staleCache, do: renewCache, remedy: "echo 2 > " + ecsagent.CacheState,
	},
	{
		ID: "ecs.dropin", Title: "Keep a refused ECS agent from restarting", code: failure.AgentCrashLoop,
		Words: "The drop-in `" + ecsagent.DropInPath + "`: an agent that ECS has refused for good is not started " +
			"again every ten seconds. " +
			"The Debian package's unit lacks that. What runs is not touched.",
		due: dropInMissing, do: writeDropIn, remedy: "add RestartPreventExitStatus=5 to [Service] in a drop-in of " +
			ecsagent.Unit + "; then systemctl daemon-reload",
	},
	{
		ID: "units.reload", Title: "Let systemd read its files again", code: failure.AgentConfig,
		Words: "`systemctl daemon-reload`, when a drop-in of Docker or of an agent lies there and systemd has not " +
			"read it. It restarts nothing.",
		due: unreadDropIns, do: func(ctx context.Context, _ Deps, tx *engine.Tx, _ string) error { return tx.ReloadUnits(ctx) },
		remedy: "systemctl daemon-reload",
	},
	{
		ID: "ssm.service", Title: "Start the SSM agent, now and at boot", code: failure.ServiceFailed,
		Words: "The SSM agent's service is started where it is stopped or failed, and enabled where it is disabled, " +
			"on a host that is a managed node.",
		due: ssmAtRest, do: startSSM, remedy: "systemctl enable --now amazon-ssm-agent", rules: []string{"ssm.service"},
	},
	{
		ID: "ecs.service", Title: "Start the ECS agent, now and at boot", code: failure.ServiceFailed,
		Words: "The ECS agent's service is started where it is stopped or failed, and enabled where it is disabled, " +
			"on a host that is a managed node " +
			"and whose Docker runs: it would start Docker otherwise. Tasks run on whether it runs or not.",
		due: ecsAtRest, do: startECS, remedy: "systemctl enable --now ecs", rules: []string{"ecs.service", "ecs.instance"},
	},
}

// verbDoctor is the verb in the journal.
const verbDoctor = "doctor"

// steps are the safe remedies as steps of the engine.
func fixSteps(d Deps, ecsUnit string) []engine.Step {
	var steps []engine.Step
	for _, f := range Fixes {
		steps = append(steps, engine.Step{
			ID: f.ID, Title: f.Title,
			Observe: func(ctx context.Context, r host.Reader) (engine.Obs, error) {
				due, err := f.due(ctx, r, ecsUnit)
				if err != nil || due == "" {
					return engine.Obs{State: engine.OK, Detail: "nothing to do"}, err
				}
				return engine.Obs{State: engine.Pending, Detail: due}, nil
			},
			Change: func(ctx context.Context, tx *engine.Tx) error { return f.do(ctx, d, tx, ecsUnit) },
		})
	}
	return steps
}

// due are the safe remedies that have something to do. One that cannot be looked at, mostly for lack of root, keeps the
// others from nothing; the first such error is returned.
func (x *examination) due(ctx context.Context) (due []engine.StepReport, unseen error) {
	for _, s := range fixSteps(x.deps, x.sight.ecsName) {
		obs, err := s.Observe(ctx, x.deps.Host.Reader)
		switch {
		case err != nil && unseen == nil:
			unseen = err
		case err == nil && obs.State != engine.OK:
			due = append(due, engine.StepReport{ID: s.ID, Title: s.Title, Status: "planned", Detail: obs.Detail})
		}
	}
	return due, unseen
}

// fixList is the list of remedies in the document, before any is applied.
func (x *examination) fixList() []DoctorFix {
	status := "possible"
	if x.req.Fix {
		status = "planned"
	}
	var list []DoctorFix
	for _, s := range x.fixes {
		list = append(list, DoctorFix{s.ID, s.Title, s.Detail, status})
	}
	return list
}

// fromFixes are findings that the safe remedies make: one that mends a rule is joined to it, another is a warning of its own.
func (x *examination) fromFixes() []DoctorFinding {
	var all []DoctorFinding
	for _, s := range x.fixes {
		f := Fixes[slices.IndexFunc(Fixes, func(f Fix) bool { return f.ID == s.ID })]
		finding := DoctorFinding{Kind: FindingWarning, Code: f.code, Title: s.Detail, Remedy: f.remedy, Fix: f.ID,
			Evidence: []DoctorEvidence{{Source: "file", File: f.ID, Line: s.Detail, Count: 1}}}
		for _, r := range x.status.Reasons {
			if slices.Contains(f.rules, r.Rule) {
				finding.Code, finding.Title, finding.Remedy, finding.Evidence = r.Code, r.Message, r.Remedy, nil // the same finding
				break
			}
		}
		all = append(all, finding)
	}
	return all
}

// fix applies the safe remedies that are due, and looks again. The report is that of the second look.
func (x *examination) fix(ctx context.Context, report *Report) error {
	e := x.deps.engine()
	plan := engine.Plan{Verb: verbDoctor, Key: "fix", Steps: fixSteps(x.deps, x.sight.ecsName)}
	if x.req.DryRun {
		steps, err := e.Observe(ctx, plan)
		report.Steps = steps
		if err == nil {
			report.Message = fixSentence(steps, "planned", "would be applied; nothing was changed", report.Message)
		}
		return err
	}
	if x.deps.Host.Self.EUID != 0 {
		return failure.New(failure.NotRoot, "--fix changes the host, which only root may").WithRemedy("sudo anywhere doctor --fix")
	}
	release, err := engine.Lock(ctx, x.deps.Host, LockPath, x.deps.RunID, x.req.LockTimeout)
	if err != nil {
		return err
	}
	defer release()
	if report.Steps, err = e.Observe(ctx, plan); err != nil {
		return err
	}
	if open, err := e.Open(); err != nil || open == nil && !anyPlanned(report.Steps) {
		report.Message = fixSentence(nil, "", "", report.Message)
		return err
	}
	if x.req.Confirm != nil {
		if err := x.req.Confirm(ctx, report.Steps); err != nil {
			return err
		}
	}
	outcome, err := e.Apply(ctx, plan, engine.Options{})
	warnings := report.Warnings
	again, lookErr := x.again(ctx, outcome)
	*report = again.report()
	report.Steps, report.Changed, report.RolledBack, report.Kept = outcome.Steps, outcome.Changed, outcome.RolledBack, outcome.Kept
	for _, w := range warnings {
		if !slices.Contains(report.Warnings, w) {
			report.Warnings = append(report.Warnings, w)
		}
	}
	result := report.Result.(DoctorResult)
	result.Fixes = applied(outcome.Steps, result.Fixes)
	report.Result = result
	report.Message = fixSentence(outcome.Steps, "done", "applied", report.Message)
	if err == nil {
		err = lookErr
	}
	*x = *again
	return err
}

func anyPlanned(steps []engine.StepReport) bool {
	return slices.ContainsFunc(steps, func(s engine.StepReport) bool { return s.Status == "planned" })
}

// fixSentence says how many remedies were applied, and how the host is.
func fixSentence(steps []engine.StepReport, status, words, host string) string {
	n := 0
	for _, s := range steps {
		if s.Status == status {
			n++
		}
	}
	switch n {
	case 0:
		return "there is no safe remedy to apply; " + host
	case 1:
		return "1 safe remedy " + strings.Replace(words, "were", "was", 1) + "; " + host
	}
	return fmt.Sprintf("%d safe remedies %s; %s", n, words, host)
}

// applied is what has become of the remedies that were due, and those that still are.
func applied(steps []engine.StepReport, still []DoctorFix) []DoctorFix {
	list := []DoctorFix{}
	for _, s := range steps {
		if s.Status != "unchanged" {
			list = append(list, DoctorFix{s.ID, s.Title, s.Detail, s.Status})
		}
	}
	for _, f := range still {
		if !slices.ContainsFunc(list, func(other DoctorFix) bool { return other.ID == f.ID }) {
			f.Status = "possible"
			list = append(list, f)
		}
	}
	return list
}

// fixedTime is how long agents that were started are given to connect, before the host is looked at again.
const fixedTime = 20 * time.Second

// again looks at everything anew. Agents that were just started have some time to come up, unless their logs say that they
// will not.
func (x *examination) again(caller context.Context, o engine.Outcome) (*examination, error) {
	ctx := context.WithoutCancel(caller) // what was changed is told also when the run was interrupted meanwhile
	req := x.req
	req.Fix = false
	started := slices.ContainsFunc(o.Steps, func(s engine.StepReport) bool {
		return s.Status == "done" && strings.HasSuffix(s.ID, ".service")
	})
	for begun := time.Now(); started && time.Since(begun) < fixedTime && caller.Err() == nil; {
		select {
		case <-time.After(pause(time.Since(begun))):
		case <-caller.Done():
		}
		s := lookAt(ctx, x.deps)
		if state, _ := s.judge(); state == Healthy {
			break
		}
		if slices.ContainsFunc(s.life.value.Findings, func(f ecsagent.Finding) bool { return f.Terminal && !f.Symptom }) {
			break
		}
	}
	again, err := examine(ctx, x.deps, req)
	if again.sight == nil {
		again = x
	}
	return again, err
}

// secretKeys are settings of the ECS agent whose values are secrets.
var secretKeys = []string{
	"ECS_ENGINE_AUTH_DATA", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
}

// openSecrets are configuration files with a secret that others may read.
func openSecrets(_ context.Context, r host.Reader, _ string) (string, error) {
	files, err := openSecretFiles(r)
	if err != nil || len(files) == 0 {
		return "", err
	}
	return strings.Join(files, ", ") + " can be read by others than root, and has a secret in it", nil
}

func openSecretFiles(r host.Reader) ([]string, error) {
	var open []string
	for _, file := range []string{ecsagent.ConfigPath, ecsagent.InstanceConfigPath, ecsagent.JSONConfigPath} {
		info, err := r.Files.Lstat(file)
		if missing(err) || err == nil && (!info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0) {
			continue
		}
		if err != nil {
			return nil, err
		}
		text, err := r.Files.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if file == ecsagent.JSONConfigPath {
			if strings.Contains(string(text), "EngineAuthData") {
				open = append(open, file)
			}
			continue
		}
		config := ecsagent.Parse(text)
		for _, key := range secretKeys {
			value, found := config.Get(key)
			if found && value != "" && (!strings.HasSuffix(strings.ToLower(key), "_proxy") || strings.Contains(value, "@")) {
				open = append(open, file)
				break
			}
		}
	}
	return open, nil
}

func closeSecrets(ctx context.Context, d Deps, tx *engine.Tx, _ string) error {
	files, err := openSecretFiles(tx.Reader())
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := changeMode(ctx, tx, d.Host, file, secretMode); err != nil {
			return err
		}
	}
	return nil
}

const modeKind = "file.mode"

// modeChange is a file whose mode was changed, as the journal has it.
type modeChange struct {
	Path   string      `json:"path"`
	Before fs.FileMode `json:"before"`
}

// modes takes a change of a file's mode back.
func modes() engine.Kind {
	return engine.Kind{Undo: func(_ context.Context, h host.Host, data []byte) ([]string, error) {
		var c modeChange
		if err := json.Unmarshal(data, &c); err != nil {
			return nil, err
		}
		if _, err := h.Files.Lstat(c.Path); missing(err) {
			return nil, nil
		}
		return nil, setMode(h, c.Path, c.Before)
	}}
}

// secretMode is that of a file with secrets.
const secretMode fs.FileMode = 0o600

// changeMode gives a file another mode, and an undo the former one.
func changeMode(ctx context.Context, tx *engine.Tx, h host.Host, file string, mode fs.FileMode) error {
	info, err := tx.Reader().Files.Stat(file)
	if err != nil {
		return err
	}
	return tx.Effect(ctx, modeKind, modeChange{file, info.Mode().Perm()}, func(context.Context) error { return setMode(h, file, mode) })
}

// setMode gives a file another mode by replacing it whole with itself.
func setMode(h host.Host, file string, mode fs.FileMode) error {
	text, err := h.Files.ReadFile(file)
	if err != nil {
		return err
	}
	owner, err := h.Disk.Owner(file)
	if err != nil {
		return err
	}
	return h.Disk.WriteFile(file, bytes.NewReader(text), mode, owner)
}

// rewrite changes the content of a file.
func rewrite(ctx context.Context, tx *engine.Tx, file string, change func([]byte) ([]byte, error)) error {
	text, err := tx.Reader().Files.ReadFile(file)
	if err == nil {
		text, err = change(text)
	}
	if err != nil {
		return err
	}
	return tx.WriteFile(ctx, file, bytes.NewReader(text), 0o600)
}

// managedNode reports whether the host is registered with Systems Manager.
func managedNode(r host.Reader) (bool, error) {
	identity, err := ssmagent.ReadIdentity(r)
	return err == nil && identity.Registered(), err
}

// meansTrue are the forms of "true" that one of the two readers of ECS_EXTERNAL does not know, quotes included (facts:
// ecs-agent section 2.1).
var meansTrue = []string{"true", "True", "TRUE", "t", "T", "1"}

// externalUnread says where ECS_EXTERNAL is meant to be true and not written so.
func externalUnread(_ context.Context, r host.Reader, _ string) (string, error) {
	files, err := externalFiles(r)
	if err != nil || len(files) == 0 {
		return "", err
	}
	if node, err := managedNode(r); err != nil || !node {
		return "", err
	}
	return ecsagent.KeyExternal + " in " + strings.Join(files, ", ") + " is not exactly true", nil
}

func externalFiles(r host.Reader) ([]string, error) {
	var files []string
	for _, file := range []string{ecsagent.ConfigPath, ecsagent.InstanceConfigPath} {
		text, err := r.Files.ReadFile(file)
		if missing(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		value, found := ecsagent.Parse(text).Get(ecsagent.KeyExternal)
		if found && value != "true" && slices.Contains(meansTrue, strings.Trim(value, `"' `)) {
			files = append(files, file)
		}
	}
	return files, nil
}

func writeExternal(ctx context.Context, _ Deps, tx *engine.Tx, ecsUnit string) error {
	files, err := externalFiles(tx.Reader())
	if err != nil {
		return err
	}
	for _, file := range files {
		err := rewrite(ctx, tx, file, func(text []byte) ([]byte, error) {
			config := ecsagent.Parse(text)
			err := config.Set(ecsagent.KeyExternal, "true")
			return config.Bytes(), err
		})
		if err != nil {
			return err
		}
	}
	unit, err := tx.Reader().Units.Unit(ctx, ecsUnit)
	if err != nil || unit.Active != "active" && unit.Active != "activating" {
		return err
	}
	return tx.Unit(ctx, ecsUnit, engine.UnitWant{Restart: true}) // it took the host for an EC2 instance: it did not work
}

// missingFolders are those that the agent needs and nobody made.
func missingFolders(_ context.Context, r host.Reader, _ string) (string, error) {
	folders, err := foldersToMake(r)
	if err != nil || len(folders) == 0 {
		return "", err
	}
	return "the folder " + strings.Join(folders, " and ") + " is missing", nil
}

func foldersToMake(r host.Reader) ([]string, error) {
	var folders []string
	there := func(path string) (bool, error) {
		_, err := r.Files.Lstat(path)
		if missing(err) {
			return false, nil
		}
		return true, err
	}
	for folder, because := range map[string]string{ecsagent.DataDir: ecsagent.InitBinary, ecsagent.ExecDir + "/config": ecsagent.ExecDir + "/bin"} {
		needed, err := there(because)
		if err != nil {
			return nil, err
		}
		made, err := there(folder)
		if err != nil {
			return nil, err
		}
		if needed && !made {
			folders = append(folders, folder)
		}
	}
	slices.Sort(folders)
	return folders, nil
}

func makeFolders(ctx context.Context, _ Deps, tx *engine.Tx, _ string) error {
	folders, err := foldersToMake(tx.Reader())
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if err := tx.Mkdir(ctx, folder, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// staleCache says that ecs-init cannot understand its own mark, and has the image at hand.
func staleCache(_ context.Context, r host.Reader, _ string) (string, error) {
	text, err := r.Files.ReadFile(ecsagent.CacheState)
	if missing(err) {
		return "", nil // ecs-init downloads the image: its own way
	}
	if err != nil {
		return "", err
	}
	value := strings.TrimSpace(string(text))
	if value == "" || slices.Contains([]string{"0", "1", "2"}, value) {
		return "", nil
	}
	image, err := r.Files.Stat(ecsagent.CachedImage)
	if err != nil || !image.Mode().IsRegular() || image.Size() == 0 {
		return "", nil
	}
	return fmt.Sprintf("%s holds %q, which ecs-init does not know", ecsagent.CacheState, shortLine(value)), nil
}

func renewCache(ctx context.Context, _ Deps, tx *engine.Tx, _ string) error {
	return rewrite(ctx, tx, ecsagent.CacheState, func([]byte) ([]byte, error) { return []byte("2\n"), nil })
}

// dropInOf is the path of anywhere's own drop-in.
func dropInOf(ecsUnit string) string {
	return strings.Replace(ecsagent.DropInPath, ecsagent.Unit, ecsUnit, 1)
}

// dropInMissing says that systemd would start a refused agent for ever. The rpm's unit has the line itself.
func dropInMissing(ctx context.Context, r host.Reader, ecsUnit string) (string, error) {
	unit, err := r.Units.Unit(ctx, ecsUnit)
	if err != nil || !unit.Loaded || unit.Enabled == "masked" {
		return "", err
	}
	for _, file := range append([]string{unit.FragmentAt, dropInOf(ecsUnit)}, unit.DropIns...) {
		text, err := r.Files.ReadFile(file)
		if err == nil && strings.Contains(string(text), "RestartPreventExitStatus=5") {
			return "", nil
		}
		if err != nil && !missing(err) && file != "" {
			return "", err
		}
	}
	return "an ECS agent that ECS has refused for good would be started again every ten seconds: " + ecsUnit + " lacks RestartPreventExitStatus=5", nil
}

func writeDropIn(ctx context.Context, d Deps, tx *engine.Tx, ecsUnit string) error {
	file := dropInOf(ecsUnit)
	if err := updateRecord(ctx, tx, d.Version, func(record *Record) { record.addFile(file, tx.Reader()) }); err != nil {
		return err
	}
	if err := tx.WriteFile(ctx, file, bytes.NewReader(ecsagent.DropIn()), 0o644); err != nil {
		return err
	}
	return tx.ReloadUnits(ctx)
}

// unreadDropIns says which drop-ins systemd has not read.
func unreadDropIns(ctx context.Context, r host.Reader, ecsUnit string) (string, error) {
	var unread []string
	for _, name := range []string{"docker.service", ecsUnit, ssmagent.UnitName, ssmagent.SnapUnit} {
		unit, err := r.Units.Unit(ctx, name)
		if err != nil {
			return "", err
		}
		if !unit.Loaded {
			continue
		}
		folder := "/etc/systemd/system/" + name + ".d"
		entries, err := r.Files.ReadDir(folder)
		if err != nil && !missing(err) {
			return "", err
		}
		for _, e := range entries {
			file := path.Join(folder, e.Name())
			info, err := r.Files.Stat(file)
			if err != nil || !info.Mode().IsRegular() || info.Size() == 0 { // an empty one, or a link to /dev/null, only hides another
				continue
			}
			if strings.HasSuffix(e.Name(), ".conf") && !slices.Contains(unit.DropIns, file) {
				unread = append(unread, file)
			}
		}
	}
	if len(unread) == 0 {
		return "", nil
	}
	return "systemd has not read " + strings.Join(unread, ", "), nil
}

// atRest says that a unit does not run and nobody is about to start it, or that it does not come up at boot.
func atRest(ctx context.Context, r host.Reader, name string) (string, error) {
	unit, err := r.Units.Unit(ctx, name)
	if err != nil || !unit.Loaded || unit.Enabled == "masked" {
		return "", err
	}
	switch {
	case unit.Active == "inactive" || unit.Active == "failed":
		return name + " is " + strings.TrimSpace(unit.Active+" "+unit.Sub), nil
	case unit.Enabled == "disabled":
		return name + " does not start at boot", nil
	}
	return "", nil
}

func ssmAtRest(ctx context.Context, r host.Reader, _ string) (string, error) {
	name, err := ssmUnitOf(ctx, r)
	if err != nil {
		return "", err
	}
	due, err := atRest(ctx, r, name)
	if err != nil || due == "" {
		return "", err
	}
	if node, err := managedNode(r); err != nil || !node {
		return "", err
	}
	return due, nil
}

func ssmUnitOf(ctx context.Context, r host.Reader) (string, error) {
	snap, err := r.Units.Unit(ctx, ssmagent.SnapUnit)
	if err != nil || !snap.Loaded {
		return ssmagent.UnitName, err
	}
	return ssmagent.SnapUnit, nil
}

func startSSM(ctx context.Context, _ Deps, tx *engine.Tx, _ string) error {
	name, err := ssmUnitOf(ctx, tx.Reader())
	if err != nil {
		return err
	}
	return tx.Unit(ctx, name, engine.UnitWant{Enable: true, Start: true})
}

func ecsAtRest(ctx context.Context, r host.Reader, ecsUnit string) (string, error) {
	due, err := atRest(ctx, r, ecsUnit)
	if err != nil || due == "" {
		return "", err
	}
	if node, err := managedNode(r); err != nil || !node {
		return "", err
	}
	docker, err := r.Units.Unit(ctx, "docker.service")
	if err != nil || !docker.Running() {
		return "", err // ecs.service wants docker.service, and would start it
	}
	return due, nil
}

func startECS(ctx context.Context, _ Deps, tx *engine.Tx, ecsUnit string) error {
	return tx.Unit(ctx, ecsUnit, engine.UnitWant{Enable: true, Start: true})
}
