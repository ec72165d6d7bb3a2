# localai-parentwatch. `make` alone lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
# Where the tests have the library installed.
PREFIX_TEST := $(CURDIR)/target/prefix
VENV := $(CURDIR)/target/venv
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The number in the SONAME: see crates/parentwatch-capi/build.rs.
ABI := 0
# Flags for the program that a target runs, for example: make demo ARGS="--workers 4"
ARGS ?=

export CARGO_TERM_COLOR ?= auto
# Everything that is built is found below target/, whatever a user's own settings are.
export CARGO_TARGET_DIR := $(CURDIR)/target

.PHONY: help
help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort -u | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

# ---------------------------------------------------------------------------------------- the library

SHARED := target/release-shared/liblocalai_parentwatch.so
STATIC := target/release-static/liblocalai_parentwatch.a
PC := target/localai_parentwatch.pc

.PHONY: lib
lib: toolchains ## the shared and the static library, and the pkg-config file
	@# Package by package: features of other workspace members must not leak into what is shipped.
	cargo rustc --quiet --locked -p parentwatch-capi --profile release-shared --crate-type cdylib
	cargo rustc --quiet --locked -p parentwatch-capi --profile release-static --crate-type staticlib
	@# Rust's own standard library brings its debug information along.
	@cp $(STATIC) target/stripped.a && strip --strip-debug target/stripped.a
	@sed -e 's|@VERSION@|$(VERSION)|' -e "s|@NATIVE_STATIC_LIBS@|$$(scripts/native-static-libs.sh)|" \
		crates/parentwatch-capi/localai_parentwatch.pc.in >$(PC)

LIBDIR = $(DESTDIR)$(PREFIX)/lib
INCLUDEDIR = $(DESTDIR)$(PREFIX)/include
SONAME := liblocalai_parentwatch.so.$(ABI)

.PHONY: install
install: lib ## header, libraries and pkg-config file below PREFIX (default /usr/local; DESTDIR is respected)
	@install -d '$(INCLUDEDIR)' '$(LIBDIR)/pkgconfig'
	@install -C -m 644 include/localai_parentwatch.h '$(INCLUDEDIR)/'
	@install -C -m 755 $(SHARED) '$(LIBDIR)/liblocalai_parentwatch.so.$(VERSION)'
	@ln -sf liblocalai_parentwatch.so.$(VERSION) '$(LIBDIR)/$(SONAME)'
	@ln -sf $(SONAME) '$(LIBDIR)/liblocalai_parentwatch.so'
	@install -C -m 644 target/stripped.a '$(LIBDIR)/liblocalai_parentwatch.a'
	@install -C -m 644 $(PC) '$(LIBDIR)/pkgconfig/'

.PHONY: uninstall
uninstall: ## remove what `make install` with the same PREFIX put there
	rm -f '$(INCLUDEDIR)/localai_parentwatch.h' '$(LIBDIR)/pkgconfig/localai_parentwatch.pc' \
		'$(LIBDIR)/liblocalai_parentwatch.a' '$(LIBDIR)/liblocalai_parentwatch.so' \
		'$(LIBDIR)/$(SONAME)' '$(LIBDIR)/liblocalai_parentwatch.so.$(VERSION)'

# The installed tree that the examples and the tests use. The stamp changes only when the tree does, so
# that nothing is built again without need.
$(PREFIX_TEST)/.stamp: FORCE
	@$(MAKE) --no-print-directory -s install PREFIX='$(PREFIX_TEST)' DESTDIR=
	@cd '$(PREFIX_TEST)' && sum=$$(find include lib -type f -exec sha256sum {} + | sort) && \
		{ [[ $$(cat .stamp 2>/dev/null) == "$$sum" ]] || echo "$$sum" >.stamp; }
.PHONY: FORCE
FORCE:

.PHONY: header
header: ## write include/localai_parentwatch.h anew from the source
	LOCALAI_PARENTWATCH_WRITE_HEADER=1 cargo test --quiet -p parentwatch-capi --test header

.PHONY: toolchains
toolchains:
	@scripts/require-toolchains.sh

-include make/demo.mk
-include make/e2e.mk
-include make/test.mk
-include make/bench.mk

.PHONY: clean
clean: ## remove everything that was built
	rm -rf target dist
