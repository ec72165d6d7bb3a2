# Tests on Debian's own kernel (6.1 in Debian 12), under QEMU: see scripts/boot.sh.

# The short part, for `make test`: a tree for each way to notice a death and for each rule about descriptors.
KERNELS_SHORT := f01_supervisor_sigkilled or f13_pidfd_open or f15_reaper_holds or f22_helper_outside or f23_helper_forks or n15_host or n17_group or h08_descriptors or x01_program_exits or x02_nested
# All tests except one that is about large numbers, not about kernels: it takes minutes, and gigabytes of memory.
KERNELS_LONG := not f19_a_thousand_workers
KERNELS_WORKERS ?= c cpp rust go-native go-degraded exec

KERNELS_TESTS := $(filter %-static,$(C_PROGRAMS))

.PHONY: check-kernels
check-kernels: $(KERNELS_TESTS) e2e-programs $(VENV)/.e2e ## run the C tests and a few process trees on Linux 6.1, under QEMU
	@scripts/check-kernels.sh '$(PREFIX_TEST)' $(E2E) '$(VENV)/bin/python' '$(KERNELS_TESTS)' '$(KERNELS_SHORT)'

.PHONY: kernels
kernels: $(KERNELS_TESTS) e2e-programs $(VENV)/.e2e ## run the C tests and the scenarios that need no Python on Linux 6.1, under QEMU (15 minutes or more)
	@BOOT_TIMEOUT=3600 scripts/check-kernels.sh '$(PREFIX_TEST)' $(E2E) '$(VENV)/bin/python' '$(KERNELS_TESTS)' '$(KERNELS_LONG)' $(KERNELS_WORKERS)

# The same on 64-bit Arm. Programs for glibc use Debian's glibc; static programs use musl.
ARM64_WORKERS := c exec
ARM64_SCENARIOS ?= $(KERNELS_LONG)
ARM64_PROGRAMS := supervisor helper file_server launch $(ARM64_WORKERS:%=worker-%) localai-parentwatch
.PHONY: test-arm64
test-arm64: ## test the C tests, the process trees in C and under exec, and the wheel on 64-bit Arm under QEMU (20 minutes or more)
	@$(MAKE) --no-print-directory arm64-glibc TARGET=aarch64-unknown-linux-gnu.$(GLIBC)
	@$(MAKE) --no-print-directory arm64-musl TARGET=aarch64-unknown-linux-musl
	@$(MAKE) --no-print-directory arm64-wheel

.PHONY: arm64-glibc arm64-musl arm64-wheel
arm64-glibc: $(KERNELS_TESTS) $(ARM64_PROGRAMS:%=$(E2E)/%) $(VENV)/.e2e
	@ARCH=arm64 BOOT_TIMEOUT=3600 scripts/check-kernels.sh '$(PREFIX_TEST)' $(E2E) '$(VENV)/bin/python' \
		'$(KERNELS_TESTS)' '$(ARM64_SCENARIOS)' $(ARM64_WORKERS)

arm64-musl: $(KERNELS_TESTS)
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && cp $(KERNELS_TESTS) scripts/run-c-tests.sh "$$work" && \
		ARCH=arm64 scripts/boot.sh "$$work" bash -c '/run-c-tests.sh /*-static'

arm64-wheel: $(VENV)/.wheel
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && \
		RUSTFLAGS= scripts/cross.sh env $(VENV)/bin/maturin build --quiet --zig --locked --target aarch64-unknown-linux-gnu \
			--compatibility manylinux_2_17 --out "$$work/wheels" && \
		python3 -m zipfile -e "$$work"/wheels/*.whl "$$work/site" && cp python/tests/anywhere.py "$$work" && \
		ARCH=arm64 scripts/boot.sh "$$work" bash -c 'PYTHONPATH=/site python3 /anywhere.py'

# The archive for musl, in programs that Debian's musl-gcc links.
.PHONY: check-musl musl-c-tests
check-musl: ## run the C tests with the archive for musl, linked by musl-gcc
	@scripts/install-packages.sh musl-tools
	@$(MAKE) --no-print-directory musl-c-tests TARGET=x86_64-unknown-linux-musl CC='musl-gcc -static -idirafter /usr/include -idirafter /usr/include/x86_64-linux-gnu'

musl-c-tests: $(KERNELS_TESTS)
	@scripts/run-c-tests.sh $^

# gVisor is not Linux, but runs programs for Linux.
.PHONY: check-gvisor
check-gvisor: $(addprefix $(C_ABI)/,watched-shared watched-static children-static) ## run C tests in gVisor: the poll tier, and no process ends by mistake
	@scripts/check-gvisor.sh $^
