# All files of a release, in dist/: see RELEASE.md.

RELEASE_TARGETS := $(foreach arch,x86_64 aarch64,$(arch)-unknown-linux-gnu.$(GLIBC) $(arch)-unknown-linux-musl)
# One wheel for each: a Rust target, and the oldest system that it supports.
RELEASE_WHEELS := $(foreach arch,x86_64 aarch64,$(arch)-unknown-linux-gnu:manylinux_2_17 $(arch)-unknown-linux-musl:musllinux_1_2)

.PHONY: release
release: toolchains ## build all files of a release in dist/, with SHA256SUMS, and try them on other systems
	@rm -rf dist
	@scripts/test.sh $(foreach target,$(RELEASE_TARGETS),'$(target)' '$(RELEASE_CAN) make dist TARGET=$(target)') \
		wheels '$(RELEASE_CAN) make release-wheels' packages '$(RELEASE_CAN) make packages' \
		Windows '$(RELEASE_CAN) make dist-windows' macOS '$(RELEASE_CAN) make dist-macos' \
		licences '$(RELEASE_CAN) make check-notices' 'built twice' '$(RELEASE_CAN) make check-reproducible' sums 'make release-sums' \
		'Debian 11' '$(call RELEASE_ELSEWHERE,bullseye)' \
		'Debian 13' '$(call RELEASE_ELSEWHERE,trixie,dist/localai_parentwatch-$(VERSION)-*-manylinux*_x86_64.whl)'
	@cd dist && ls -l && cat SHA256SUMS

# A file that cannot be built here prints one line that begins with SKIPPED.
RELEASE_CAN := scripts/cross.sh env true || exit $$(($$? != 77));
# Tries the tarballs of this processor, and more files, on another Debian.
RELEASE_ELSEWHERE = scripts/check-elsewhere.sh $1 dist/localai-parentwatch-$(VERSION)-linux-x86_64-{gnu,musl}.tar.gz $2 || \
	exit $$(($$? != 77))

.PHONY: release-wheels
release-wheels: $(VENV)/.wheel
	@mkdir -p dist
	@for wheel in $(RELEASE_WHEELS); do \
		RUSTFLAGS= SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) scripts/cross.sh env $(VENV)/bin/maturin build --quiet --zig --locked --target "$${wheel%:*}" \
			--compatibility "$${wheel#*:}" --out dist; \
	done
	@$(VENV)/bin/maturin sdist --out dist

.PHONY: notices
notices: ## write THIRD-PARTY-LICENSES: the licences of all code that a release links
	@scripts/notices.sh THIRD-PARTY-LICENSES

.PHONY: check-notices
check-notices: ## check that THIRD-PARTY-LICENSES is current, and in every tarball and wheel in dist/
	@mkdir -p target
	@scripts/notices.sh target/notices || exit $$(($$? != 77)); diff THIRD-PARTY-LICENSES target/notices || \
		{ echo 'THIRD-PARTY-LICENSES is old: make notices writes it anew' >&2; exit 1; }
	@scripts/install-packages.sh libarchive-tools
	@for file in $(wildcard dist/*.tar.gz dist/*.whl); do \
		bsdtar -xOf "$$file" '*/THIRD-PARTY-LICENSES' | cmp - THIRD-PARTY-LICENSES || \
			{ echo "$$file: the licences of others" >&2; exit 1; }; \
	done

# The other processor has the same compiler and the same scripts.
REPRODUCED := 'tarball TARGET=x86_64-unknown-linux-gnu.$(GLIBC)' 'tarball TARGET=x86_64-unknown-linux-musl'
.PHONY: check-reproducible
check-reproducible: ## build tarballs of `make release` again in another folder, and compare the bytes
	@SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) scripts/check-reproducible.sh $(REPRODUCED)

.PHONY: release-sums
release-sums:
	@cd dist && rm -f *.sha256 SHA256SUMS && sha256sum -- * >../target/SHA256SUMS && mv ../target/SHA256SUMS .

# For systems other than Linux: $1 names the system. Below target/cross/$2 are the files of the shared library, $3, and the
# program, $4. $5 is the licence of a C library that is linked into them.
RELEASE_LIBRARY = scripts/cross.sh rustc $1 --quiet --locked -p parentwatch-capi --profile release-library --crate-type cdylib
RELEASE_PROGRAM = scripts/cross.sh build $1 --quiet --locked -p parentwatch-cli --profile release-program
define RELEASE_OTHER
	@name=localai-parentwatch-$(VERSION)-$1 && from=target/cross/$2 && to=target/release-$1 && rm -rf "$$to" && \
		install -d "$$to/$$name"/{bin,include,lib} && install -m 644 LICENSE THIRD-PARTY-LICENSES "$$to/$$name/" && \
		$(if $5,install -m 644 $5 "$$to/$$name/THIRD-PARTY-LICENSES.mingw-w64" &&) \
		install -m 644 include/localai_parentwatch.h "$$to/$$name/include/" && \
		for file in $3; do install -m 755 "$$from/release-library/$$file" "$$to/$$name/lib/"; done && \
		install -m 755 "$$from/release-program/$4" "$$to/$$name/bin/" && mkdir -p dist && \
		tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='@$(SOURCE_DATE_EPOCH)' --mode=go=u,go-w \
			-C "$$to" -c "$$name" | gzip -n -9 >"dist/$$name.tar.gz"
endef

# `make test-windows` tests a debug build of this code under Wine. Here the released program runs.
.PHONY: dist-windows
dist-windows:
	@$(call RELEASE_LIBRARY,x86_64-pc-windows-gnu)
	@$(call RELEASE_PROGRAM,x86_64-pc-windows-gnu)
	$(call RELEASE_OTHER,windows-x86_64,x86_64-pc-windows-gnu,localai_parentwatch.dll liblocalai_parentwatch.dll.a,localai-parentwatch.exe,/usr/share/doc/mingw-w64-x86-64-dev/copyright)
	@cp target/release-windows-x86_64/*/bin/*.exe target/release-windows-x86_64/ && \
		scripts/cross.sh run-windows target/release-windows-x86_64/localai-parentwatch.exe --version | grep -F '$(VERSION)'

.PHONY: dist-macos
dist-macos: check-macos
	$(call RELEASE_OTHER,macos-arm64,aarch64-apple-darwin,liblocalai_parentwatch.dylib,localai-parentwatch)
	$(call RELEASE_OTHER,macos-x86_64,x86_64-apple-darwin,liblocalai_parentwatch.dylib,localai-parentwatch)
