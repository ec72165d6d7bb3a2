# Tests of the Go modules with the installed library.

GO := target/go
GO_PACKAGES := gcc libc6-dev
# The two modules: the package parentwatch, which has no dependency, and go/native.
GO_MODULES := go go/native
# All modules here that need other modules.
GO_FETCHING := go/native examples/proto examples/supervisor examples/worker-go e2e/workers/go
# 2026.1, the last release that Go 1.25 can build.
GO_STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
# Where the tests find the library: the installed one, not the built one.
GO_LIBRARY := LOCALAI_PARENTWATCH_LIBRARY='$(PREFIX_TEST)/lib/$(SONAME)'

.PHONY: check-go
check-go: go-packages ## check the Go modules: format, vet, staticcheck, tests without cgo and with the race detector, and as go get fetches them
	@$(MAKE) --no-print-directory check-go-lint check-go-test check-go-release

# Runs before anything is built: another make does the build, so the order also holds with `make -j`.
.PHONY: go-packages
go-packages: go-modules
	@scripts/install-packages.sh $(GO_PACKAGES)

# Fetch the modules before anything needs them: Go itself does not retry when the network fails.
.PHONY: go-modules
go-modules: toolchains
	@for module in $(GO_FETCHING); do scripts/retry.sh go mod download -C "$$module"; done

.PHONY: check-go-lint
check-go-lint:
	@unformatted=$$(gofmt -l go) && \
		{ [[ -z $$unformatted ]] || { echo "not formatted by gofmt: $$unformatted" >&2; exit 1; }; }
	@mkdir -p $(GO)
	@GOBIN='$(CURDIR)/$(GO)' scripts/retry.sh go install $(GO_STATICCHECK)
	@for module in $(GO_MODULES); do \
		scripts/retry.sh go mod tidy -C $$module -diff; \
		(cd $$module && go vet ./... && '$(CURDIR)/$(GO)/staticcheck' ./...); \
	done
	@# It must also build for other systems, even those without the library.
	@for system in darwin/arm64 windows/amd64 freebsd/amd64 android/arm64 linux/arm linux/s390x; do \
		for module in $(GO_MODULES); do \
			GOOS=$${system%/*} GOARCH=$${system#*/} CGO_ENABLED=0 go vet -C $$module ./...; \
		done; \
	done

# LocalAI builds its backends without cgo; the race detector needs it. -count=1: go test caches results, but does not
# notice when the library changes.
.PHONY: check-go-test
check-go-test: $(PREFIX_TEST)/.stamp
	@mkdir -p $(GO)
	@for race in '' -race; do \
		for module in $(GO_MODULES); do \
			echo "$$module $$race"; \
			CGO_ENABLED=$$([[ $$race ]] && echo 1 || echo 0) $(GO_LIBRARY) \
				go test -C $$module $$race -v -count=1 -timeout 30m ./... >$(GO)/test.log 2>&1 || \
				{ cat $(GO)/test.log; exit 1; }; \
			grep -E '^(ok|SKIPPED)' $(GO)/test.log; \
		done; \
	done

.PHONY: check-go-release
check-go-release: $(PREFIX_TEST)/.stamp
	@scripts/check-go-release.sh '$(PREFIX_TEST)'
