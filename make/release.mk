# Everything that can be downloaded, into dist/: see RELEASE.md.

RELEASE_TARGETS := $(foreach arch,x86_64 aarch64,$(arch)-unknown-linux-gnu.$(GLIBC) $(arch)-unknown-linux-musl)
# A wheel for each: a target of Rust, and the oldest system that it is for.
RELEASE_WHEELS := $(foreach arch,x86_64 aarch64,$(arch)-unknown-linux-gnu:manylinux_2_17 $(arch)-unknown-linux-musl:musllinux_1_2)

.PHONY: release
release: toolchains ## everything that can be downloaded, into dist/, with SHA256SUMS, and tried on other systems
	@rm -rf dist
	@scripts/test.sh $(foreach target,$(RELEASE_TARGETS),'$(target)' '$(RELEASE_CAN) make dist TARGET=$(target)') \
		wheels '$(RELEASE_CAN) make release-wheels' packages '$(RELEASE_CAN) make packages' \
		Windows '$(RELEASE_CAN) make dist-windows' macOS '$(RELEASE_CAN) make dist-macos' \
		sums 'make release-sums' \
		'Debian 11' '$(call RELEASE_ELSEWHERE,bullseye)' 'Debian 13' '$(call RELEASE_ELSEWHERE,trixie)'
	@cd dist && ls -l && cat SHA256SUMS

# What cannot be built here has said so in one line that begins with SKIPPED.
RELEASE_CAN := scripts/cross.sh env true || exit $$(($$? != 77));
RELEASE_ELSEWHERE = scripts/check-elsewhere.sh $1 dist/localai-parentwatch-$(VERSION)-linux-x86_64-{gnu,musl}.tar.gz \
	dist/localai_parentwatch-$(VERSION)-*-manylinux*_x86_64.whl || exit $$(($$? != 77))

.PHONY: release-wheels
release-wheels: $(VENV)/.wheel
	@mkdir -p dist
	@for wheel in $(RELEASE_WHEELS); do \
		RUSTFLAGS= SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) scripts/cross.sh env $(VENV)/bin/maturin build --quiet --zig --locked --target "$${wheel%:*}" \
			--compatibility "$${wheel#*:}" --out dist; \
	done
	@$(VENV)/bin/maturin sdist --quiet --out dist

.PHONY: release-sums
release-sums:
	@cd dist && rm -f *.sha256 SHA256SUMS && sha256sum -- * >../target/SHA256SUMS && mv ../target/SHA256SUMS .
