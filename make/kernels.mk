# The library on Debian's own kernel (6.1 in Debian 12), under QEMU: see scripts/boot.sh.

# The short part, of `make test`: a tree for each way to see a death and each rule about descriptors.
KERNELS_SHORT := f01_supervisor_sigkilled or f13_pidfd_open or f22_helper_outside or n15_host or n17_group or h08_descriptors or x01_program_exits or x02_nested
# The whole, but for a tree that is about numbers, not about kernels: it takes minutes, and gigabytes of memory.
KERNELS_LONG := not f19_a_thousand_workers
KERNELS_WORKERS ?= c cpp rust go-native go-degraded exec

KERNELS_TESTS := $(filter %-static,$(C_PROGRAMS))

.PHONY: check-kernels
check-kernels: $(KERNELS_TESTS) e2e-programs $(VENV)/.e2e ## the C tests and a few process trees on Linux 6.1, under QEMU
	@scripts/check-kernels.sh '$(PREFIX_TEST)' '$(VENV)/bin/python' '$(KERNELS_TESTS)' '$(KERNELS_SHORT)'

.PHONY: kernels
kernels: $(KERNELS_TESTS) e2e-programs $(VENV)/.e2e ## the C tests and the scenarios that need no Python on Linux 6.1, under QEMU (15 minutes or more)
	@BOOT_TIMEOUT=3600 scripts/check-kernels.sh '$(PREFIX_TEST)' '$(VENV)/bin/python' '$(KERNELS_TESTS)' '$(KERNELS_LONG)' $(KERNELS_WORKERS)

# No Linux at all, but programs for Linux run on it.
.PHONY: check-gvisor
check-gvisor: $(addprefix $(C_ABI)/,watched-shared watched-static children-static) ## C tests in gVisor: the poll tier, and nobody ends by mistake
	@scripts/check-gvisor.sh $^
