# Checks. Each step is also a separate target. scripts/test.sh runs them and prints a summary.

CHECK_PACKAGES := binutils gcc gdb libc6-dev make pkg-config protobuf-compiler python3-venv shellcheck util-linux
TEST_PACKAGES := $(CHECK_PACKAGES) g++
C_TESTS := abi threads dying exec hosts orphans children memory watched atfork

.PHONY: check
check: ## run the checks for daily work, in three minutes: format, lint, docs, the core and the C library
	@scripts/require-toolchains.sh rust
	@scripts/install-packages.sh $(CHECK_PACKAGES)
	@scripts/test.sh \
		format 'make check-format' \
		lint 'make check-lint' \
		docs 'make check-docs' \
		scenarios 'make check-scenarios' \
		core 'make check-core' \
		c-abi 'make check-c-abi'

.PHONY: test
test: toolchains ## run all checks, with a summary of what ran and what was skipped
	@scripts/install-packages.sh $(DEMO_PACKAGES) $(TEST_PACKAGES)
	@scripts/test.sh \
		format 'make check-format' \
		lint 'make check-lint' \
		docs 'make check-docs' \
		publish 'make check-publish' \
		workflows 'make check-workflows' \
		core 'make check-core' \
		'core, poll tier' 'make check-core-poll' \
		library 'make check-library' \
		c-abi 'make check-c-abi' \
		cpp 'make check-cpp' \
		dist 'make dist' \
		wheel 'make check-wheel' \
		python 'make check-python' \
		go 'make check-go' \
		guides 'make check-guides' \
		examples 'make examples-check' \
		demo 'make demo-check' \
		e2e 'make e2e' \
		scenarios 'make check-scenarios' \
		kernels 'make check-kernels' \
		gvisor 'make check-gvisor' \
		soak 'make soak SOAK_MINUTES=1'

.PHONY: test-all
test-all: test ## run make test, then the long checks: the whole suite on Linux 6.1, ten minutes of soak, sanitizers, mutations
	@$(MAKE) --no-print-directory test-long

.PHONY: test-long
test-long: toolchains
	@scripts/test.sh kernels 'make kernels' soak 'make soak' sanitize 'make sanitize' mutations 'make mutations' \
		deny 'make check-deny' 'what a Mac runs' 'scripts/test-macos.sh' arm64 'make test-arm64' musl 'make check-musl' \
		Windows 'make test-windows' 'macOS, linked' 'make check-macos' 'macOS, shim' 'make test-macos-shim' \
		book 'make book' bench 'make bench ARGS=--quick' release 'make release' README 'make check-readme'

.PHONY: check-format check-lint check-docs check-core check-core-poll check-library check-c-abi
check-format:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check

check-lint: $(VENV)/.e2e
	cargo clippy --quiet --locked --workspace --all-targets --all-features -- -D warnings
	@# The same for what macOS has instead of Linux's module.
	$(SHIM_CARGO) clippy --quiet --locked -p parentwatch --all-targets -- -D warnings
	$(VENV)/bin/ruff check --quiet --no-cache .
	shellcheck scripts/*.sh cpp-tests/*.sh .ci/run

check-docs:
	@# The man pages must agree with the command line.
	@rm -rf target/pages
	@cargo run --quiet --locked -p parentwatch-cli --features pages -- generate target/pages
	@diff -r $(PAGES) target/pages || { echo 'the pages are old: make pages writes them anew' >&2; exit 1; }
	python3 scripts/check_links.py
	RUSTDOCFLAGS='-D warnings' cargo doc --quiet --locked --no-deps -p parentwatch -p parentwatch-capi

check-core:
	cargo test --locked -p parentwatch -p parentwatch-capi -p parentwatch-cli --all-features

# The tier for systems without pidfds.
check-core-poll:
	RUSTFLAGS='--cfg parentwatch_force_poll' CARGO_TARGET_DIR=target/force-poll \
		cargo test --locked -p parentwatch

check-library: $(PREFIX_TEST)/.stamp
	scripts/check-library.sh $(PREFIX_TEST)

# C programs with the installed library, linked dynamically and statically.
C_ABI := $(FOR)/c-abi
C_PROGRAMS := $(foreach test,$(C_TESTS),$(C_ABI)/$(test)-shared $(C_ABI)/$(test)-static)
C_COMPILE = @mkdir -p $(@D); $(CC) -std=gnu11 -Wall -Wextra -Wpedantic -Werror -g -I $(PREFIX_TEST)/include -o $@ $<

$(C_PROGRAMS): $(wildcard crates/parentwatch-capi/tests/c/*.h) $(PREFIX_TEST)/.stamp
$(C_ABI)/%-shared: crates/parentwatch-capi/tests/c/%.c
	$(C_COMPILE) -L $(PREFIX_TEST)/lib -llocalai_parentwatch -pthread -Wl,-rpath,$(PREFIX_TEST)/lib
$(C_ABI)/%-static: crates/parentwatch-capi/tests/c/%.c
	$(C_COMPILE) $(PREFIX_TEST)/lib/liblocalai_parentwatch.a \
		$$(sed -n 's/^Libs.private: //p' $(PREFIX_TEST)/lib/pkgconfig/localai_parentwatch.pc)

check-c-abi: $(C_PROGRAMS)
	@scripts/run-c-tests.sh $(C_PROGRAMS)
	@# The dying path unmaps memory and devices, but must not unmap a program that is below /dev.
	@program=$$(mktemp -p /dev/shm); trap 'rm -f "$$program"' EXIT; \
	cp target/c-abi/dying-static "$$program"; chmod +x "$$program"; status=0; "$$program" || status=$$?; \
	case $$status in \
		0) echo 'ok     dying, from /dev/shm';; \
		126) echo 'SKIPPED: dying, from /dev/shm: programs may not be run from there';; \
		*) echo "FAILED dying, from /dev/shm: status $$status"; exit 1;; \
	esac
