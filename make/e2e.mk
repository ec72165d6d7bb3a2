# The process-tree tests: every scenario with every worker. ARGS goes to pytest, for example
# make e2e ARGS="-k f05 --worker=c". The trees are independent: E2E_JOBS of them run at the same time.
E2E_JOBS ?= 4
E2E := $(FOR)/e2e
# Where the library is that the workers are linked with.
E2E_PREFIX ?= $(PREFIX_TEST)
E2E_CC ?= $(CC)
E2E_CXX ?= c++
E2E_FLAGS := -O2 -g -Wall -Wextra -Werror -pthread -Ie2e/protocol -Ie2e/workers/c
E2E_CFLAGS := -std=c11 $(E2E_FLAGS)
E2E_CXXFLAGS := -std=c++17 -Wpedantic $(E2E_FLAGS)
E2E_PKG_CONFIG = PKG_CONFIG_PATH='$(E2E_PREFIX)/lib/pkgconfig' pkg-config
E2E_PROTOCOL := e2e/protocol/protocol.c e2e/protocol/protocol.h
E2E_REQUESTS := e2e/workers/c/requests.c e2e/workers/c/requests.h
E2E_PROGRAMS := $(addprefix $(E2E)/,supervisor helper file_server launch \
	worker-c worker-cpp worker-rust worker-go-native worker-go-degraded \
	worker-poller worker-pdeathsig worker-naive worker-exec localai-parentwatch python/.stamp)

.PHONY: e2e
e2e: e2e-programs $(VENV)/.e2e ## run the process-tree tests with every worker (ARGS="-k f05" goes to pytest)
	$(VENV)/bin/python -m pytest -c e2e/pytest.ini --rootdir e2e -n $(E2E_JOBS) e2e $(ARGS)

.PHONY: e2e-programs
e2e-programs: $(E2E_PROGRAMS)

$(VENV)/.e2e: e2e/requirements.txt
	@test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(E2E):
	@mkdir -p $@

$(E2E)/supervisor: e2e/supervisors/supervisor.c $(E2E_PROTOCOL) | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $(filter %.c,$^) -o $@.new && mv $@.new $@

$(E2E)/helper: e2e/bystanders/helper.c $(E2E_PROTOCOL) | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $(filter %.c,$^) -o $@.new && mv $@.new $@

$(E2E)/file_server: e2e/bystanders/file_server.c $(E2E_PROTOCOL) | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $(filter %.c,$^) -o $@.new && mv $@.new $@

$(E2E)/launch: e2e/launchers/launch.c $(E2E_PROTOCOL) | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $(filter %.c,$^) -o $@.new && mv $@.new $@

# The installed archive, by its full name: -l would link the shared library beside it.
E2E_ARCHIVE = "$$($(E2E_PKG_CONFIG) --variable=libdir localai_parentwatch)/liblocalai_parentwatch.a" \
	$$($(E2E_PKG_CONFIG) --static --libs-only-l localai_parentwatch | sed 's/-llocalai_parentwatch//')

$(E2E)/worker-c: e2e/workers/c/worker.c $(E2E_REQUESTS) $(E2E_PROTOCOL) $(E2E_PREFIX)/.stamp | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $$($(E2E_PKG_CONFIG) --cflags localai_parentwatch) $(filter %.c,$^) -o $@.new $(E2E_ARCHIVE)
	@mv $@.new $@

$(E2E)/worker-cpp: e2e/workers/cpp/worker.cpp $(E2E)/requests.o $(E2E)/protocol.o $(E2E_PREFIX)/.stamp | $(E2E)
	$(E2E_CXX) $(E2E_CXXFLAGS) $$($(E2E_PKG_CONFIG) --cflags localai_parentwatch) $(filter %.cpp %.o,$^) -o $@.new $(E2E_ARCHIVE)
	@mv $@.new $@

$(E2E)/requests.o: $(E2E_REQUESTS) $(E2E_PROTOCOL) $(E2E_PREFIX)/.stamp | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $$($(E2E_PKG_CONFIG) --cflags localai_parentwatch) -c $< -o $@

$(E2E)/protocol.o: $(E2E_PROTOCOL) | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) -c $< -o $@

# The negative controls: the same worker, with a watcher that is known to be wrong.
$(E2E)/worker-poller $(E2E)/worker-pdeathsig $(E2E)/worker-naive: $(E2E)/worker-%: e2e/workers/c/worker.c e2e/controls/%.c \
		e2e/controls/texts.c $(E2E_REQUESTS) $(E2E_PROTOCOL) $(E2E_PREFIX)/.stamp | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $$($(E2E_PKG_CONFIG) --cflags localai_parentwatch) $(filter %.c,$^) -o $@.new && mv $@.new $@

# A worker that arms nothing, and the installed program, which runs it.
$(E2E)/worker-exec: e2e/workers/c/worker.c e2e/workers/exec/guarded.c e2e/controls/texts.c \
		$(E2E_REQUESTS) $(E2E_PROTOCOL) $(E2E_PREFIX)/.stamp | $(E2E)
	$(E2E_CC) $(E2E_CFLAGS) $$($(E2E_PKG_CONFIG) --cflags localai_parentwatch) $(filter %.c,$^) -o $@.new && mv $@.new $@

$(E2E)/localai-parentwatch: $(PREFIX_TEST)/.stamp | $(E2E)
	@install -C -m 755 '$(PREFIX_TEST)/bin/localai-parentwatch' $@

$(E2E)/worker-rust: FORCE | $(E2E)
	cargo build --quiet --locked --release -p e2e-worker-rust
	@install -C target/release/e2e-worker-rust $@

# The library is beside the program, as LocalAI packages it. Go itself decides what to rebuild.
$(E2E)/worker-go-native: FORCE go-modules $(PREFIX_TEST)/.stamp | $(E2E)
	@ln -sfn '$(PREFIX_TEST)/lib' $(E2E)/lib
	CGO_ENABLED=0 go build -C e2e/workers/go -buildvcs=false -trimpath -tags native -o '$(CURDIR)/$@' .

$(E2E)/worker-go-degraded: FORCE go-modules | $(E2E)
	CGO_ENABLED=0 go build -C e2e/workers/go -buildvcs=false -trimpath -o '$(CURDIR)/$@' .

# The worker in Python uses the wheel in its own environment, never the source. The wheel is installed again only if a
# file in it has changed: the archive itself also changes with its timestamps.
E2E_WHEEL_CONTENTS := import sys, zipfile; \
	print(*sorted((file.filename, file.CRC) for file in zipfile.ZipFile(sys.argv[1]).infolist()))
$(E2E)/python/.stamp: wheel FORCE | $(E2E)
	@wheel=$$(echo dist/localai_parentwatch-*.whl) && contents=$$(python3 -c '$(E2E_WHEEL_CONTENTS)' "$$wheel") && \
		{ [[ $$(cat $@ 2>/dev/null) == "$$contents" ]] || { python3 -m venv --clear $(@D) && \
		$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$$wheel" && \
		echo "$$contents" >$@; }; }
