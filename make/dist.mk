# The tarball for build images without Rust.

# For another target: its processor and its C library, without the oldest release.
DIST_NAME := localai-parentwatch-$(VERSION)-linux-$(if $(TARGET),$(subst -unknown-linux,,$(TARGET:.$(GLIBC)=)),$(shell uname -m))
DIST := dist/$(DIST_NAME).tar.gz
# The timestamps in the archive: the same sources give the same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: dist
dist: tarball ## pack headers, libraries, CMake and pkg-config files into a tarball for this kind of machine, with a checksum
	@scripts/install-packages.sh binutils gcc libc6-dev make pkg-config
	@cd dist && sha256sum '$(DIST_NAME).tar.gz' >'$(DIST_NAME).tar.gz.sha256'
	@scripts/check-dist.sh '$(DIST)' $(TARGET)

.PHONY: tarball
tarball: lib
	@rm -rf $(FOR)/dist
	@$(MAKE) --no-print-directory -s install DESTDIR='$(CURDIR)/$(FOR)/dist' PREFIX='/$(DIST_NAME)'
	@install -C -m 644 LICENSE THIRD-PARTY-LICENSES '$(FOR)/dist/$(DIST_NAME)/'
	@mkdir -p dist
	@tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='@$(SOURCE_DATE_EPOCH)' --mode=go=u,go-w \
		-C $(FOR)/dist -c '$(DIST_NAME)' | gzip -n -9 >'$(DIST)'
