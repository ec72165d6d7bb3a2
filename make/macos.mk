# macOS without a Mac: part of its module runs here, and the rest is compiled and linked. See docs/platforms.md.

# The macOS module instead of the Linux one, with crates/parentwatch/src/sys/macos/shim.rs. Never optimised: a release
# build with the shim does not compile.
SHIM := target/macos-shim
SHIM_CARGO := RUSTFLAGS='--cfg parentwatch_macos_shim' CARGO_TARGET_DIR=$(SHIM) cargo
SHIM_PREFIX := $(SHIM)/prefix
SHIM_E2E := $(addprefix $(SHIM)/e2e/,supervisor helper file_server launch worker-c)
SHIM_C_TESTS := abi dying hosts orphans children memory watched atfork
SHIM_C_PROGRAMS := $(SHIM_C_TESTS:%=$(SHIM)/c/%)

.PHONY: test-macos-shim
test-macos-shim: toolchains $(VENV)/.e2e ## test the macOS module on Linux: the core's own tests, the C tests, process trees with the C worker
	@scripts/install-packages.sh gcc libc6-dev linux-libc-dev make pkg-config util-linux
	@$(SHIM_CARGO) test --quiet --locked -p parentwatch --lib
	@$(MAKE) --no-print-directory $(SHIM_PREFIX)/.stamp
	@$(MAKE) --no-print-directory E2E=$(SHIM)/e2e E2E_PREFIX=$(SHIM_PREFIX) $(SHIM_E2E) $(SHIM_C_PROGRAMS)
	@scripts/run-c-tests.sh $(SHIM_C_PROGRAMS)
	@$(VENV)/bin/python e2e/macos_shim.py --build '$(CURDIR)/$(SHIM)/e2e' --prefix '$(CURDIR)/$(SHIM_PREFIX)' -n $(E2E_JOBS) $(ARGS)

$(SHIM_PREFIX)/.stamp: FORCE
	@$(SHIM_CARGO) build --quiet --locked -p parentwatch-capi
	@install -d $(@D)/include $(@D)/lib/pkgconfig
	@install -C -m 644 include/*.h $(@D)/include/
	@install -C -m 644 $(SHIM)/debug/liblocalai_parentwatch.a $(@D)/lib/
	@install -C -m 755 $(SHIM)/debug/liblocalai_parentwatch.so $(@D)/lib/$(SONAME)
	@sed -e 's|@VERSION@|$(VERSION)|' -e "s|@NATIVE_STATIC_LIBS@|$$(scripts/native-static-libs.sh)|" \
		crates/parentwatch-capi/localai_parentwatch.pc.in >$(@D)/lib/pkgconfig/localai_parentwatch.pc
	@# The stamp changes only if the library does.
	@sum=$$(sha256sum $(@D)/lib/*.a) && { [[ $$(cat $@ 2>/dev/null) == "$$sum" ]] || echo "$$sum" >$@; }

$(SHIM)/c/%: crates/parentwatch-capi/tests/c/%.c $(wildcard crates/parentwatch-capi/tests/c/*.h) $(SHIM_PREFIX)/.stamp
	@mkdir -p $(@D)
	@cc -std=gnu11 -Wall -Wextra -g -I$(SHIM_PREFIX)/include -o $@ $< $(E2E_ARCHIVE)

.PHONY: check-macos
check-macos: toolchains ## link the library and the program for macOS, for both processors, without running them
	@status=0; scripts/check-macos.sh || status=$$?; ((status == 0 || status == 77))
