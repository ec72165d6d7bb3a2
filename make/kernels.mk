# The library on Debian's own kernel (6.1 in Debian 12), under QEMU: see scripts/boot.sh.

# The short part, of `make test`: a tree for each way to see a death and each rule about descriptors.
KERNELS_SHORT := f01_supervisor_sigkilled or f13_pidfd_open or f22_helper_outside or n15_host or n17_group or h08_descriptors
KERNELS_WORKERS ?= c cpp rust go-native go-degraded

.PHONY: check-kernels
check-kernels: c-tests e2e-programs $(VENV)/.e2e ## the C tests and a few process trees on Linux 6.1, under QEMU
	@scripts/check-kernels.sh '$(PREFIX_TEST)' '$(VENV)/bin/python' '$(KERNELS_SHORT)'

# gVisor has no pidfds: the poll tier.
.PHONY: check-gvisor
check-gvisor: c-tests ## a C test in gVisor
	@scripts/check-gvisor.sh target/c-abi/children-static

.PHONY: kernels
kernels: c-tests e2e-programs $(VENV)/.e2e ## the C tests and every scenario that needs no Python on Linux 6.1 (15 minutes or more)
	@scripts/check-kernels.sh '$(PREFIX_TEST)' '$(VENV)/bin/python' '' $(KERNELS_WORKERS)
