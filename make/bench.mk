# The benchmarks: see bench/README.md.

BENCH := target/bench
BENCH_FLAGS := -O2 -std=gnu11 -Wall -Wextra
BENCH_PYTHON := $(BENCH)/python/bin/python
BENCH_PROGRAMS := $(addprefix $(BENCH)/,driver supervisor worker worker-static worker-go worker.py .wheel)

.PHONY: bench
bench: bench-packages ## latency, crowds, idling, arming, sizes, with pictures, into docs/benchmarks (ARGS=--quick: 80 s, into target)
	@$(MAKE) --no-print-directory bench-build
	@$(BENCH_PYTHON) bench/run.py --so '$(PREFIX_TEST)/lib/$(SONAME)' \
		--archive '$(PREFIX_TEST)/lib/liblocalai_parentwatch.a' \
		--program '$(PREFIX_TEST)/bin/localai-parentwatch' --wheel dist/localai_parentwatch-*.whl $(ARGS)

.PHONY: bench-check
bench-check: $(BENCH)/python/.stamp ## hold the figures of make bench against bench/targets.toml (ARGS=target/bench/quick: those of --quick)
	@$(BENCH_PYTHON) bench/check.py $(ARGS)

.PHONY: bench-report
bench-report: $(BENCH)/python/.stamp ## draw the pictures and write the page anew, from the figures of make bench
	@$(BENCH_PYTHON) bench/report.py $(ARGS)

# Runs before anything is built: another make does the build, so the order also holds with `make -j`.
.PHONY: bench-packages
bench-packages: toolchains
	@scripts/install-packages.sh gcc libc6-dev linux-libc-dev make python3-venv
	@scripts/retry.sh go mod download -C bench/worker-go

.PHONY: bench-build
bench-build: $(BENCH_PROGRAMS)

# The supervisor links no library: its own end is part of the measured time.
$(BENCH)/supervisor: bench/supervisor.c bench/bench.h crates/parentwatch-capi/tests/c/poll_tier.h
	@mkdir -p $(BENCH)
	@gcc $(BENCH_FLAGS) -Icrates/parentwatch-capi/tests/c -o $@ $<

$(BENCH)/driver $(BENCH)/worker: $(BENCH)/%: bench/%.c bench/bench.h $(PREFIX_TEST)/.stamp
	@mkdir -p $(BENCH)
	@gcc $(BENCH_FLAGS) -I'$(PREFIX_TEST)/include' -o $@ $< -L'$(PREFIX_TEST)/lib' \
		-llocalai_parentwatch -Wl,--enable-new-dtags,-rpath,'$(PREFIX_TEST)/lib' -pthread -ldl

$(BENCH)/worker-static: bench/worker.c bench/bench.h $(PREFIX_TEST)/.stamp
	@mkdir -p $(BENCH)
	@gcc $(BENCH_FLAGS) -I'$(PREFIX_TEST)/include' -o $@ $< '$(PREFIX_TEST)/lib/liblocalai_parentwatch.a' \
		$$(sed -n 's/^Libs.private: //p' '$(PREFIX_TEST)/lib/pkgconfig/localai_parentwatch.pc') -pthread -ldl

# The library lies beside the program, as LocalAI packages it. go knows best what there is to be done.
$(BENCH)/worker-go: FORCE $(PREFIX_TEST)/.stamp
	@mkdir -p $(BENCH)
	@ln -sfn '$(PREFIX_TEST)/lib' $(BENCH)/lib
	@CGO_ENABLED=0 go build -C bench/worker-go -buildvcs=false -trimpath -o '$(CURDIR)/$@' .

$(BENCH)/worker.py: bench/worker.py
	@mkdir -p $(BENCH)
	@install -m 644 $< $@

$(BENCH)/python/.stamp: bench/requirements.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "bench: Python 3.11 or later is needed")'
	@python3 -m venv --clear $(@D)
	@$(BENCH_PYTHON) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

# The wheel is installed, never the source, and again only when a file in it has changed: see make/e2e.mk.
$(BENCH)/.wheel: $(BENCH)/python/.stamp wheel
	@contents=$$(stat -c %Y $<; python3 -c '$(E2E_WHEEL_CONTENTS)' dist/localai_parentwatch-*.whl) && \
		{ [[ $$(cat $@ 2>/dev/null) == "$$contents" ]] || { \
		$(BENCH_PYTHON) -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall \
			dist/localai_parentwatch-*.whl && \
		echo "$$contents" >$@; }; }

.PHONY: bench-gpu
bench-gpu: bench-packages ## measure from the kill until GPU memory is free, on an NVIDIA GPU (ARGS="--gib 20 --rounds 5")
	@$(MAKE) --no-print-directory bench-build
	@$(BENCH_PYTHON) bench/gpu.py $(ARGS)
