# The benchmarks: see bench/README.md.

BENCH := target/bench
BENCH_FLAGS := -O2 -std=gnu11 -Wall -Wextra
BENCH_PROGRAMS := $(BENCH)/driver $(BENCH)/supervisor $(BENCH)/worker

.PHONY: bench
bench: bench-packages ## latency, arming, idling, size against their targets (ARGS="--json --runs 1")
	@$(MAKE) --no-print-directory bench-build
	@python3 bench/report.py --folder '$(CURDIR)/$(BENCH)' \
		--library '$(PREFIX_TEST)/lib/$(SONAME)' \
		--program '$(PREFIX_TEST)/bin/localai-parentwatch' $(ARGS)

# Runs before anything is built: another make does the build, so the order also holds with `make -j`.
.PHONY: bench-packages
bench-packages: toolchains
	@scripts/install-packages.sh gcc libc6-dev linux-libc-dev make

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

.PHONY: bench-gpu
bench-gpu: bench-packages ## measure from the kill until GPU memory is free, on an NVIDIA GPU (ARGS="--gib 20 --rounds 5")
	@$(MAKE) --no-print-directory bench-build
	@python3 bench/gpu.py --folder '$(CURDIR)/$(BENCH)' $(ARGS)
