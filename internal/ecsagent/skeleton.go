package ecsagent

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/anywhere-ecs/anywhere/internal/artifact"
	"github.com/anywhere-ecs/anywhere/internal/engine"
	"github.com/anywhere-ecs/anywhere/internal/failure"
	"github.com/anywhere-ecs/anywhere/internal/host"
)

var _ = artifact.Package{}

type File struct{}

func Parse(data []byte) *File                          { panic("not yet") }
func (f *File) Get(key string) (value string, ok bool) { panic("not yet") }
func (f *File) Set(key, value string) error            { panic("not yet") }
func (f *File) Unset(key string)                       { panic("not yet") }
func (f *File) Bytes() []byte                          { panic("not yet") }

type Config struct{ Instance, User *File }

func ReadConfig(r host.Reader) (Config, error) { panic("not yet") }
func (c Config) Agent(key string) string       { panic("not yet") }
func (c Config) Init(key string) string        { panic("not yet") }
func (c Config) Problems() []Problem           { panic("not yet") }

type Problem struct {
	File   string
	Line   int
	Key    string
	Wrong  string
	Remedy string
	Fatal  bool
}

func CheckSetting(key, value string) error { panic("not yet") }

type State struct {
	DB, Legacy bool
	ModTime    time.Time
}

func ReadState(r host.Reader) (State, error) { panic("not yet") }

var ErrClosed = errors.New("the ECS agent's introspection port is closed: it has not registered yet")

type Metadata struct{ Cluster, ContainerInstanceARN, Version, Hash string }

func Introspect(ctx context.Context, r host.Reader) (Metadata, error) { panic("not yet") }

type Task struct {
	ARN, DesiredStatus, KnownStatus, Family, Revision string
	Containers                                        []TaskContainer
}

type TaskContainer struct{ ID, Name, Image string }

func Tasks(ctx context.Context, r host.Reader) ([]Task, error) { panic("not yet") }

func SameCluster(configured, account, region, want string) bool { panic("not yet") }
func ClusterName(nameOrARN string) string                       { panic("not yet") }

type InstanceARN struct{ Partition, Region, Account, Cluster, ID string }

func ParseInstanceARN(s string) (InstanceARN, error) { panic("not yet") }

type Finding struct {
	Code     failure.Code
	Time     time.Time
	Line     string
	File     string
	Cause    string
	Remedy   string
	Terminal bool
}

func ReadLog(r host.Reader, since time.Time) ([]Finding, error) { panic("not yet") }

func KnownBad(version string) (reason string, bad bool)   { panic("not yet") }
func BelowFloor(version string) (reason string, low bool) { panic("not yet") }
func CompareVersions(a, b string) int                     { panic("not yet") }

type ExecFiles struct {
	Complete   []string
	Incomplete []string
	ConfigDir  bool
	Certs      bool
}

func ReadExec(r host.Reader) (ExecFiles, error) { panic("not yet") }

func InstallExec(ctx context.Context, tx *engine.Tx, pkg artifact.Package, files host.Files) error {
	panic("not yet")
}

func DropIn() []byte { panic("not yet") }

var _ fs.FileMode
