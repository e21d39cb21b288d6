# Targets: demo build test test-long lint bench fuzz vuln image clean
.POSIX:
.PHONY: demo build test test-long lint bench fuzz vuln image clean

GO      = go
VERSION = $$(git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT  = $$(git rev-parse HEAD 2>/dev/null)
PACKAGE = github.com/sluice-gateway/sluice

# The larger numbers of test-long: time for each fuzz target, time without a
# database, random cases of each property.
FUZZTIME = 60s
OUTAGE   = 60s
CHECKS   = 20000

build:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-X $(PACKAGE)/core/telemetry.version=$(VERSION) -X $(PACKAGE)/core/telemetry.commit=$(COMMIT)" -o bin/sluice ./cmd/sluice

demo: build
	./bin/sluice serve --demo

# Fails on a failed test and on a skipped one; its last line is the count. Each
# fuzz target gets a thousand new inputs here and a minute in test-long.
test:
	@tests/setup.sh
	@FUZZQUIET=1 FUZZTIME=1000x tests/fuzz.sh
	@tests/gotest.sh ./...

# All tests, then those that have larger numbers with these, then fuzzing.
test-long: test
	@tests/gotest.sh -run 'TestDatabaseAway' ./tests/fault -args -outage=$(OUTAGE)
	@tests/gotest.sh -run 'Properties' ./core/ledger -args -rapid.checks=$(CHECKS)
	@FUZZTIME=$(FUZZTIME) tests/fuzz.sh

lint:
	@out=$$(find . -name node_modules -prune -o -name '*.go' -exec gofmt -l {} +); if [ -n "$$out" ]; then echo "gofmt -w is needed for:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) tool go-errorlint ./...
	$(GO) test -count=1 ./tests

bench: build
	$(GO) test -count=1 -timeout 30m -run '^$$' -bench . -benchmem ./core/...
	@if [ -d tests/bench ]; then $(GO) run ./tests/bench; fi

fuzz:
	@FUZZTIME=$(FUZZTIME) tests/fuzz.sh

# Needs the vulnerability database; without a network it says so and passes.
vuln:
	@$(GO) tool govulncheck ./... || { rc=$$?; if [ $$rc -eq 3 ]; then exit 3; fi; echo "govulncheck did not run (exit $$rc): is the vulnerability database in reach?"; }

image:
	docker build --build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) -t sluice:$(VERSION) .

clean:
	rm -rf bin
