# The examples and the demo.

DEMO := target/demo
DEMO_PACKAGES := ca-certificates cmake g++ libgrpc++-dev libprotobuf-dev make pkg-config \
	protobuf-compiler protobuf-compiler-grpc

.PHONY: demo
demo: demo-packages ## kill a supervisor of real gRPC workers and see them go (ARGS="--workers 4")
	@$(MAKE) --no-print-directory demo-build
	@target/release/localai-parentwatch demo $(ARGS)

.PHONY: demo-check
demo-check: demo-packages ## the demo end to end, judged by its JSON
	@$(MAKE) --no-print-directory demo-build
	target/release/localai-parentwatch demo --json >$(DEMO)/demo.json
	python3 examples/check_demo.py cpp rust <$(DEMO)/demo.json

# Before anything is built: a make of its own builds, so that this holds for `make -j` too.
.PHONY: demo-packages
demo-packages: toolchains
	@scripts/install-packages.sh $(DEMO_PACKAGES)

.PHONY: demo-build
demo-build: $(DEMO)/supervisor $(DEMO)/worker-cpp demo-build-rust

# ---- the supervisor and the code that its gRPC calls are made of

SUPERVISOR := examples/supervisor
SUPERVISOR_PROTO := $(SUPERVISOR)/internal/backend
SUPERVISOR_FILES := $(wildcard $(SUPERVISOR)/*.go $(SUPERVISOR_PROTO)/*.go) \
	$(SUPERVISOR)/go.mod $(SUPERVISOR)/go.sum

$(DEMO)/supervisor: $(SUPERVISOR_FILES)
	@echo "building the supervisor"
	@go build -C $(SUPERVISOR) -buildvcs=false -trimpath -o '$(CURDIR)/$@' .

# `protoc` with the plugins that the supervisor's go.mod pins, into the directory $(1).
define generate-go-proto
	@mkdir -p $(DEMO)/tools $(1)
	@go build -C $(SUPERVISOR) -buildvcs=false -o '$(CURDIR)/$(DEMO)/tools/' \
		google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	@options=paths=source_relative,Mbackend.proto=$$(go list -C $(SUPERVISOR) -m)/internal/backend && \
		PATH='$(CURDIR)/$(DEMO)/tools':"$$PATH" protoc --proto_path=examples/proto \
		--go_out=$(1) --go_opt="$$options" --go-grpc_out=$(1) --go-grpc_opt="$$options" backend.proto
endef

.PHONY: proto
proto: demo-packages ## write the supervisor's gRPC code anew from examples/proto
	$(call generate-go-proto,$(SUPERVISOR_PROTO))

.PHONY: examples-check
examples-check: demo-packages ## format, vet and tests of the examples (C++ worker, Go supervisor), and that the Go gRPC code is current
	@rm -rf $(DEMO)/proto
	$(call generate-go-proto,$(DEMO)/proto)
	@# Another release of protoc makes the same code and writes another number into it.
	@diff -r -I '^//[[:space:]-]*protoc ' $(DEMO)/proto $(SUPERVISOR_PROTO) || \
		{ echo "$(SUPERVISOR_PROTO) is not what examples/proto makes: run make proto" >&2; exit 1; }
	@unformatted=$$(gofmt -l $(SUPERVISOR)) && \
		{ [[ -z $$unformatted ]] || { echo "not formatted by gofmt: $$unformatted" >&2; exit 1; }; }
	go vet -C $(SUPERVISOR) ./...
	@$(MAKE) --no-print-directory $(DEMO)/worker-cpp
	@# The worker is none of the files that go test remembers results by.
	EXAMPLE_WORKER_CPP='$(CURDIR)/$(DEMO)/worker-cpp' go test -C $(SUPERVISOR) -count=1 ./...

# ---- the workers and the program that runs the demo

$(DEMO)/worker-cpp: examples/worker-cpp/CMakeLists.txt examples/worker-cpp/main.cpp \
		examples/proto/backend.proto $(PREFIX_TEST)/.stamp
	@echo "building the C++ worker"
	@# What CMake has found of the package is in its cache, and may have changed.
	@rm -f $(DEMO)/build-cpp/CMakeCache.txt
	@cmake -S examples/worker-cpp -B $(DEMO)/build-cpp -DCMAKE_PREFIX_PATH='$(PREFIX_TEST)' \
		-DCMAKE_RUNTIME_OUTPUT_DIRECTORY='$(CURDIR)/$(DEMO)' >$(DEMO)/build-cpp.log || \
		{ cat $(DEMO)/build-cpp.log; exit 1; }
	@MAKEFLAGS= cmake --build $(DEMO)/build-cpp --parallel 2 >$(DEMO)/build-cpp.log || { cat $(DEMO)/build-cpp.log; exit 1; }
	@touch $@

# Cargo knows best what there is to be done.
.PHONY: demo-build-rust
demo-build-rust:
	@mkdir -p $(DEMO)
	@cargo build $(if $(wildcard $(DEMO)/worker-rust),--quiet) --locked --release \
		-p parentwatch-cli -p worker-rust
	@install -C target/release/worker-rust $(DEMO)/worker-rust
