# The examples and the demo.

DEMO := target/demo
DEMO_PACKAGES := ca-certificates cmake g++ libgrpc++-dev libprotobuf-dev make pkg-config \
	protobuf-compiler protobuf-compiler-grpc python3-venv

.PHONY: demo
demo: demo-packages ## kill the supervisor of real gRPC workers and watch them end (ARGS="--workers 4")
	@$(MAKE) --no-print-directory demo-build
	@target/release/localai-parentwatch demo $(ARGS)

.PHONY: demo-check
demo-check: demo-packages ## run the demo end to end, and check its JSON
	@$(MAKE) --no-print-directory demo-build
	@# If only a time limit is missed, perhaps because the machine stalled, check_demo.py exits with 3. Other faults do
	@# not happen by chance.
	@for try in 1 2 3; do \
		demo=0 check=0; \
		target/release/localai-parentwatch demo --json --ready-timeout 300 >$(DEMO)/demo.json || demo=$$?; \
		[[ -s $(DEMO)/demo.json ]] || exit 1; \
		python3 examples/check_demo.py cpp rust python+helpers go go-degraded exec+helpers+guarded <$(DEMO)/demo.json || check=$$?; \
		if ((demo == 0 && check == 0)); then exit 0; fi; \
		((check == 3)) || exit 1; \
		echo "demo-check: too slow, try $$try of 3" >&2; \
	done; exit 1

# Runs before anything is built: another make does the build, so the order also holds with `make -j`.
.PHONY: demo-packages
demo-packages: go-modules
	@scripts/install-packages.sh $(DEMO_PACKAGES)

.PHONY: demo-build
demo-build: $(DEMO)/supervisor $(DEMO)/worker-cpp demo-build-rust demo-build-python demo-build-go

# ---- the supervisor, the Go worker, and their generated gRPC code

SUPERVISOR := examples/supervisor
GO_PROTO := examples/proto
GO_EXAMPLES := $(GO_PROTO) $(SUPERVISOR) examples/worker-go

# Go itself decides what to rebuild.
.PHONY: $(DEMO)/supervisor
$(DEMO)/supervisor:
	@go build -C $(SUPERVISOR) -buildvcs=false -trimpath -o '$(CURDIR)/$@' .

# As LocalAI packages a backend: the program, and its libraries in lib/ beside it. The other program is static.
.PHONY: demo-build-go
demo-build-go: export CGO_ENABLED := 0
demo-build-go: $(PREFIX_TEST)/.stamp
	@install -D -C -m 755 '$(PREFIX_TEST)/lib/$(SONAME)' '$(DEMO)/lib/$(SONAME)'
	@go build -C examples/worker-go -buildvcs=false -trimpath -o '$(CURDIR)/$(DEMO)/worker-go' .
	@go build -C examples/worker-go -buildvcs=false -trimpath -tags degraded -o '$(CURDIR)/$(DEMO)/worker-go-degraded' .

# `protoc` with the plugins that go.mod pins, into the directory $(1).
define generate-go-proto
	@mkdir -p $(DEMO)/tools $(1)
	@go build -C $(GO_PROTO) -buildvcs=false -o '$(CURDIR)/$(DEMO)/tools/' \
		google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@options=paths=source_relative,Mbackend.proto=$$(go list -C $(GO_PROTO) -m)/backend && \
		PATH='$(CURDIR)/$(DEMO)/tools':"$$PATH" protoc --proto_path=$(GO_PROTO) \
		--go_out=$(1) --go_opt="$$options" --go-grpc_out=$(1) --go-grpc_opt="$$options" backend.proto
endef

.PHONY: proto
proto: demo-packages ## regenerate the examples' Go gRPC code from examples/proto
	$(call generate-go-proto,$(GO_PROTO)/backend)

.PHONY: examples-check
examples-check: demo-packages ## check format, vet and tests of the examples and the cluster, and that the Go gRPC code is current
	@rm -rf $(DEMO)/proto
	$(call generate-go-proto,$(DEMO)/proto)
	@# Another release of protoc generates the same code with another version number.
	@diff -r -I '^//[[:space:]-]*protoc ' $(DEMO)/proto $(GO_PROTO)/backend || \
		{ echo "$(GO_PROTO)/backend is not what examples/proto makes: run make proto" >&2; exit 1; }
	@unformatted=$$(gofmt -l $(GO_EXAMPLES)) && \
		{ [[ -z $$unformatted ]] || { echo "not formatted by gofmt: $$unformatted" >&2; exit 1; }; }
	@for module in $(GO_EXAMPLES); do scripts/retry.sh go mod tidy -C "$$module" -diff; go vet -C "$$module" ./...; done
	@go vet -C examples/worker-go -tags degraded ./...
	@# LocalAI is built for these too.
	@for system in darwin windows; do for module in $(GO_EXAMPLES); do \
		GOOS=$$system CGO_ENABLED=0 go vet -C "$$module" ./...; \
	done; done
	@$(MAKE) --no-print-directory demo-build
	@! grep -q INTERP < <(readelf -lW $(DEMO)/worker-go-degraded) || { echo "$(DEMO)/worker-go-degraded is not static" >&2; exit 1; }
	@# go test caches results, but does not notice when a worker changes.
	EXAMPLE_WORKERS='$(CURDIR)/$(DEMO)' EXAMPLE_GUARD='$(CURDIR)/target/release/localai-parentwatch' go test -C $(SUPERVISOR) -timeout 30m -count=1 ./...
	@$(MAKE) --no-print-directory cluster-check

# ---- the workers and the program that runs the demo

$(DEMO)/worker-cpp: examples/worker-cpp/CMakeLists.txt examples/worker-cpp/main.cpp \
		examples/proto/backend.proto $(PREFIX_TEST)/.stamp
	@echo "building the C++ worker"
	@# CMake has cached what it found of the package, which may have changed.
	@rm -f $(DEMO)/build-cpp/CMakeCache.txt
	@cmake -S examples/worker-cpp -B $(DEMO)/build-cpp -DCMAKE_PREFIX_PATH='$(PREFIX_TEST)' \
		-DCMAKE_RUNTIME_OUTPUT_DIRECTORY='$(CURDIR)/$(DEMO)' >$(DEMO)/build-cpp.log || \
		{ cat $(DEMO)/build-cpp.log; exit 1; }
	@MAKEFLAGS= cmake --build $(DEMO)/build-cpp --parallel 2 >$(DEMO)/build-cpp.log || { cat $(DEMO)/build-cpp.log; exit 1; }
	@touch $@

# Cargo itself decides what to rebuild.
.PHONY: demo-build-rust
demo-build-rust:
	@mkdir -p $(DEMO)
	@cargo build $(if $(wildcard $(DEMO)/worker-rust),--quiet) --locked --release \
		-p parentwatch-cli -p worker-rust --features parentwatch-cli/demo
	@install -C target/release/worker-rust $(DEMO)/worker-rust
	@# Beside the supervisor, which looks for it there.
	@install -C target/release/localai-parentwatch $(DEMO)/localai-parentwatch

# The wheel as users have it, in its own environment: the source tree is not on its path.
.PHONY: demo-build-python
demo-build-python: $(DEMO)/worker-python/.stamp
	@$(MAKE) --no-print-directory wheel >$(DEMO)/wheel.log 2>&1 || { cat $(DEMO)/wheel.log; exit 1; }
	@cd $(DEMO)/worker-python && wheel=$$(ls '$(CURDIR)'/dist/localai_parentwatch-*.whl) && sum=$$(sha256sum "$$wheel") && \
		[[ $$(cat venv/.wheel 2>/dev/null) == "$$sum" ]] || { \
			venv/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps "$$wheel" && \
			echo "$$sum" >venv/.wheel; }

$(DEMO)/worker-python/.stamp: $(wildcard examples/worker-python/*.*) examples/proto/backend.proto
	@echo "building the Python worker"
	@mkdir -p $(@D)
	@test -x $(@D)/venv/bin/python || python3 -m venv $(@D)/venv
	@$(@D)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r examples/worker-python/requirements.txt
	@$(@D)/venv/bin/python -m grpc_tools.protoc --proto_path=examples/proto --python_out=$(@D) --grpc_python_out=$(@D) \
		backend.proto
	@install -C examples/worker-python/*.sh examples/worker-python/*.py $(@D)
	@touch $@
