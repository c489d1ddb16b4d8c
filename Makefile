# make build, test and demo need Go, git and make, nothing else.

# What the program says about itself. It comes from git here and not from Go's own stamping, so that a build with
# -buildvcs=false says the same. SOURCE_DATE is the commit's date: the same commit gives the same bytes.
VERSION     ?= $(shell git describe --tags --match 'v*' 2>/dev/null | sed 's/^v//' | grep . || echo dev)
COMMIT      ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
SOURCE_DATE ?= $(shell TZ=UTC0 git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd 2>/dev/null)
SOURCE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)

LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.date=$(SOURCE_DATE)
TESTFLAGS ?=
E2EFLAGS  ?=
CUTSFLAGS ?=

# The packages with tests that need root. Those carry the build tag "root", so that they are left out or run, and never
# skipped: make test asks for Go, git and make alone.
ROOTED = ./internal/host

.DEFAULT_GOAL := help

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## the static binary, bin/anywhere
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/anywhere ./cmd/anywhere

.PHONY: demo
demo: build ## the real commands, end to end, without AWS and without root
	./bin/anywhere rehearse

.PHONY: test
test: ## go vet and all tests but e2e; TESTFLAGS adds flags
	go vet ./...
	go test $(TESTFLAGS) ./...

.PHONY: race
race: ## the tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(MAKE) test TESTFLAGS='-race -timeout=20m $(TESTFLAGS)'

.PHONY: cuts
cuts: ## a power cut at each point of an upgrade, of which race takes a part; CUTSFLAGS=-whole: of every verb on rpm hosts too
	go test -count=1 -run '^TestPowerFails' ./internal/rehearsal $(CUTSFLAGS)

.PHONY: e2e
e2e: ## what needs root on Debian: the real dpkg, mounts, the binary on real systemd hosts; E2EFLAGS adds flags
	go vet -tags root $(ROOTED) && go test -count=1 -tags root $(ROOTED)
	cd test/e2e && go vet ./... && go test -count=1 -timeout=25m -parallel=3 $(E2EFLAGS) ./...

.PHONY: e2e-slow
e2e-slow: ## what takes minutes: a whole host for arm64, emulated, other releases of Debian, virtual machines, kills at every point on rpm hosts; docs/tested.md has what came of it
	cd test/e2e && go vet -tags slow ./... && go test -tags slow -count=1 -timeout=60m -run 'TestHostForARM64|TestLifeOnRPM|TestTheOtherVerbsOnRPM|TestDockerRPM|TestAuthorityOnRPM|TestLifeOnOtherReleases|TestVirtualMachine|TestSELinux' $(E2EFLAGS) .
	$(MAKE) cuts CUTSFLAGS=-whole

.PHONY: lint
lint: ## gofmt and golangci-lint, both modules
	@files=$$(gofmt -l $$(git ls-files '*.go')) && test -z "$$files" || { echo "gofmt would change: $$files"; exit 1; }
	golangci-lint run ./...
	cd test/e2e && golangci-lint run ./...

.PHONY: cross
cross: export GOFLAGS += -trimpath # as the snapshot builds, which then finds most of it done
cross: ## vet and build for the other platforms
	GOOS=linux GOARCH=arm64 go vet ./...
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go build -o /dev/null ./cmd/anywhere
	GOOS=windows GOARCH=amd64 go vet ./...
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 go build -o /dev/null ./cmd/anywhere

.PHONY: generate
generate: ## what is made from the program: docs/errors.md, tables of docs/doctor.md and docs/limits.md, docs/tested.md, docs/schema, docs/man, completions
	go test ./internal/failure -run '^TestDocumentHasEveryCode$$' -update
	go test ./internal/lifecycle -run '^TestTablesOfDoctorsDocuments$$' -update
	go test ./internal/rehearsal -run '^TestFaultsDocument$$' -update
	go test ./internal/platform -run '^TestDocumentOfWhatWasTested$$' -update
	go test ./internal/cli -run '^TestGenerated' -update

.PHONY: manual
manual: ## man pages as packages have them, in bin/man
	rm -rf bin/man && mkdir -p bin/man && cp docs/man/*.8 bin/man && gzip -9n bin/man/*.8

.PHONY: bench
bench: ## benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-e2e
bench-e2e: ## register on a real host over a slow line, by step (root on Debian); E2EFLAGS adds flags
	cd test/e2e && go test -v -run '^$$' -bench . -benchtime 5x -timeout 15m $(E2EFLAGS) .

.PHONY: cover
cover: ## coverage by function; coverage.out for the browser
	go test -coverprofile=coverage.out -coverpkg=./internal/... ./...
	go tool cover -func=coverage.out | tail -1

.PHONY: snapshot
snapshot: ## archives, packages and checksums as a release has them, in dist/, and what must be in them
	COMMIT=$(COMMIT) SOURCE_DATE=$(SOURCE_DATE) SOURCE_EPOCH=$(SOURCE_EPOCH) goreleaser release --snapshot --clean --skip=sbom,sign
	test/release/check dist

.PHONY: clean
clean: ## remove what the others made
	rm -rf bin dist coverage.out
