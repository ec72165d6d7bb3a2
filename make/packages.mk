# Packages for Linux with glibc: see scripts/packages.sh.

PACKAGE_TARGETS ?= $(foreach arch,x86_64 aarch64,$(arch)-unknown-linux-gnu.$(GLIBC))

.PHONY: packages
packages: toolchains ## .deb and .rpm for x86-64 and arm64, and the list of the crates in them (CycloneDX), in dist/
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) RUSTFLAGS= scripts/packages.sh $(PACKAGE_TARGETS)
	@scripts/check-packages.sh dist || exit $$(($$? != 77))
