# Ringfort. `make help` lists what there is.

GO         ?= go
VERSION    ?= 0.1.0-dev
COMMIT     ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE       ?= $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
VERSIONPKG := github.com/ringfort/ringfort/internal/version
LDFLAGS    := -s -w -X $(VERSIONPKG).Version=$(VERSION) -X $(VERSIONPKG).Commit=$(COMMIT) -X $(VERSIONPKG).Date=$(DATE)
TOOL       := $(GO) tool -modfile=$(CURDIR)/tools/go.mod
CLUSTER    ?= .local-cluster
SAMPLE     := deploy/sample.ndjson

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/kvnode and bin/kvctl, static
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/kvnode ./cmd/kvctl

.PHONY: test
test: ## run all tests, the simulator included; ends on a count
	@$(GO) test -json -timeout 15m ./... | $(GO) run ./internal/cmd/testsummary

.PHONY: race
race: ## run all tests under the race detector (needs a C compiler)
	@CGO_ENABLED=1 $(GO) test -race -json -timeout 30m ./... | $(GO) run ./internal/cmd/testsummary

.PHONY: sim
sim: ## run N random simulator scenarios from SEED (N=100 SEED=1)
	$(GO) test -count=1 -timeout 60m -run 'TestRandomScenarios' ./tests/sim -sim.n=$(or $(N),100) -sim.seed=$(or $(SEED),1)

.PHONY: damage
damage: ## damage files of a stopped node; N=trials SEED=first
	$(GO) test -count=1 -v -timeout 120m ./tests/damage -damage.n $(or $(N),200) -damage.seed $(or $(SEED),1)

.PHONY: contract
contract: ## counters and watches through kill -9 and lost answers (ADDS=100000 EVENTS=1000000 SEED=drawn)
	$(GO) test -count=1 -v -timeout 60m ./tests/contract -contract.adds $(or $(ADDS),100000) -contract.events $(or $(EVENTS),1000000) -contract.seed $(or $(SEED),0)

.PHONY: fault-disk
fault-disk: ## let disks of real nodes hang and run full; needs root, takes two minutes
	$(GO) test -count=1 -v -timeout 15m ./tests/disk -disk.faults

.PHONY: lint
lint: ## gofmt, vet, staticcheck, import directions and package docs
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'run gofmt -w on these'; exit 1; }
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) test ./internal/lint

.PHONY: generate
generate: ## regenerate the protobuf code beside the .proto files
	cd api && $(TOOL) buf lint && $(TOOL) buf generate

.PHONY: cluster
cluster: build ## build, start three nodes, load sample keys; may be repeated
	@bin/kvctl local up --nodes 3 --dir $(CLUSTER)
	@bin/kvctl import $(SAMPLE) --context local
	@echo
	@echo 'Try:   bin/kvctl put hello world && bin/kvctl get hello'
	@echo '       bin/kvctl cluster status'
	@echo '       bin/kvctl local kill n1 --dir $(CLUSTER) && bin/kvctl get hello'
	@echo '       bin/kvctl local up --dir $(CLUSTER)          # brings n1 back'
	@echo 'Stop:  make cluster-down     (keeps the data in $(CLUSTER); add WIPE=1 to delete it)'

.PHONY: cluster-down
cluster-down: build ## stop the cluster of `make cluster`; WIPE=1 deletes its data
	@if [ -e $(CLUSTER)/cluster.json ]; then bin/kvctl local down --dir $(CLUSTER) $(if $(WIPE),--wipe); \
	else echo 'no cluster in $(CLUSTER)'; fi

.PHONY: bench
bench: ## micro-benchmarks of the hot path
	$(GO) test -run '^$$' -bench . -benchmem ./shardmap ./raftstore/... ./client ./node/kvserver

.PHONY: verify
verify: lint generate test race ## everything CI could ask, and that generated code is fresh
	@git diff --exit-code -- api || { echo 'generated code is stale: commit the result of make generate'; exit 1; }

.PHONY: clean
clean: ## remove what the build made
	rm -rf bin
