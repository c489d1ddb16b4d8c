package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

// runLog is the structured log of one run, one JSON object a line, without secrets. A nil runLog logs nothing.
type runLog struct {
	file io.Closer
	name string
	to   *slog.Logger
}

// openLog opens the log of a command that changes things. The default file that cannot be written costs a warning; one
// that was asked for and cannot be written stops the command before anything is touched.
func (a *app) openLog(h host.Host, dryRun bool) error {
	asked := a.origins["log-file"].kind != byDefault
	if !asked && (dryRun || h.Self.EUID != 0) {
		return nil // nothing will be changed: without root the command fails in a moment
	}
	path, err := filepath.Abs(a.global.logFile)
	if err != nil {
		return failure.Wrap(failure.Usage, err, "--log-file: make %s absolute", a.global.logFile)
	}
	file, err := appendTo(h.Disk, path, asked)
	switch {
	case err != nil && asked:
		failed := failure.Wrap(failure.ReadOnly, err, "%s: open the log file %s", a.gave("log-file"), path)
		if failed.Code == failure.Internal { // a folder, or in one that takes no files
			failed.Code = failure.ReadOnly
		}
		return failed
	case err != nil:
		a.warn("this run is not logged: %s cannot be written: %s", path, err)
		return nil
	}
	clean := func(_ []string, attr slog.Attr) slog.Attr {
		switch attr.Value.Kind() {
		case slog.KindString:
			attr.Value = slog.StringValue(a.redactor.Clean(attr.Value.String()))
		case slog.KindAny:
			attr.Value = slog.StringValue(a.redactor.Clean(fmt.Sprint(attr.Value.Any())))
		}
		return attr
	}
	handler := slog.NewJSONHandler(file, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: clean})
	a.log = &runLog{file: file, name: path, to: slog.New(handler).With("run", a.runID)}
	return nil
}

// appendTo opens the file; the default one's folder is made first.
func appendTo(disk host.Disk, path string, asked bool) (host.AppendFile, error) {
	if !asked {
		if err := disk.Mkdir(filepath.Dir(path), 0o700, host.Owner{}); err != nil {
			return nil, err
		}
	}
	return disk.Append(path)
}

// gave names what gave a flag's value, for error messages.
func (a *app) gave(flag string) string {
	switch o := a.origins[flag]; o.kind {
	case byEnvironment, byConfig:
		return o.at
	}
	return "--" + flag
}

func (l *runLog) path() string {
	if l == nil {
		return ""
	}
	return l.name
}

// event logs one event of the engine. A fetch's bytes are not logged: their number is in the one that ends it.
func (l *runLog) event(e engine.Event) {
	if l == nil || e.Kind == engine.Progressed {
		return
	}
	attrs := []slog.Attr{slog.String("event", string(e.Kind))}
	if e.Step != "" {
		attrs = append(attrs, slog.String("step", e.Step), slog.String("title", e.Title))
	}
	if e.Text != "" {
		attrs = append(attrs, slog.String("text", e.Text))
	}
	if e.Took > 0 {
		attrs = append(attrs, slog.Int64("tookMs", e.Took.Milliseconds()))
	}
	level := slog.LevelInfo
	if e.Err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	l.to.LogAttrs(context.Background(), level, "event", attrs...)
}

func (l *runLog) info(msg string, args ...any) {
	if l != nil {
		l.to.Info(msg, args...)
	}
}

func (a *app) logf(format string, args ...any) { a.log.info(fmt.Sprintf(format, args...)) }

// logEnd logs how the run ended, with what its failure wraps: the log may say more than people want to read.
func (a *app) logEnd(status int, err error) {
	if a.log == nil {
		return
	}
	if err != nil {
		failed := failure.Of(err)
		a.log.to.Error("end", "status", status, "code", string(failed.Code), "error", failed.Message,
			"evidence", failed.Evidence, "chain", chain(failed))
	} else {
		a.log.to.Info("end", "status", status, "changed", a.outcome.report.Changed, "msg", a.outcome.report.Message)
	}
	_ = a.log.file.Close() // each line was written by itself; there is nothing to flush
}

// chain is the text of the errors below a failure.
func chain(err *failure.Error) string {
	if err.Err == nil {
		return ""
	}
	return err.Err.Error()
}
