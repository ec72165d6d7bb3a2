# localai-parentwatch. `make` alone lists what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
DESTDIR ?=
# A Rust target for another Linux than this machine, for example: make dist TARGET=aarch64-unknown-linux-musl
TARGET ?=
# The oldest glibc for releases. It is the end of a glibc target.
GLIBC := 2.17
# Each target has its own folder.
BUILT := target/$(or $(TARGET),native)
FOR := $(if $(TARGET),$(BUILT),target)
# Where the library is installed for the tests.
PREFIX_TEST := $(CURDIR)/$(FOR)/prefix
CC := $(if $(TARGET),scripts/cross.sh env python-zig cc -target $(subst -unknown,,$(TARGET)),cc)
VENV := $(CURDIR)/target/venv
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# The number in the SONAME: see crates/parentwatch-capi/build.rs.
ABI := 0
# Flags for the program that a target runs, for example: make demo ARGS="--workers 4"
ARGS ?=

export CARGO_TERM_COLOR ?= auto
# Everything is built below target/, whatever the user's own settings are.
export CARGO_TARGET_DIR := $(CURDIR)/target

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort -u | awk -F ':.*## ' '{ printf "  make %-14s %s\n", $$1, $$2 }'

# ---------------------------------------------------------------------------------------- the library

PAGES := crates/parentwatch-cli/pages
SOURCES := $(shell find crates include scripts/{build,cross,seal-archive,check-archive}.sh Cargo.toml Cargo.lock ! -type d ! -path '*/tests/*')

.PHONY: lib
lib: $(BUILT)/.stamp ## build the shared and the static library, the program, and the files for pkg-config and CMake

# Built only if a source is newer, so that `sudo make install` needs no toolchain after `make`.
$(BUILT)/.stamp: $(SOURCES)
	@scripts/build.sh '$(BUILT)' $(TARGET)
	@touch $@

.PHONY: pages
pages: ## regenerate the man pages and shell completions from the definition of the command line
	@rm -rf $(PAGES)
	@cargo run --quiet --locked -p parentwatch-cli --features pages -- generate $(PAGES)

LIBDIR = $(DESTDIR)$(PREFIX)/lib
INCLUDEDIR = $(DESTDIR)$(PREFIX)/include
CMAKEDIR = $(LIBDIR)/cmake/localai_parentwatch
BINDIR = $(DESTDIR)$(PREFIX)/bin
SHAREDIR = $(DESTDIR)$(PREFIX)/share
MANDIR = $(SHAREDIR)/man/man1
BASHDIR = $(SHAREDIR)/bash-completion/completions
ZSHDIR = $(SHAREDIR)/zsh/site-functions
FISHDIR = $(SHAREDIR)/fish/vendor_completions.d
SONAME := liblocalai_parentwatch.so.$(ABI)

.PHONY: install
install: lib ## install headers, libraries, pkg-config and CMake files, the program and its man pages in PREFIX (default /usr/local; DESTDIR is respected)
	@# Explicit modes, whatever the umask is: the Go module rejects a library that a group can replace.
	@install -d '$(INCLUDEDIR)' '$(LIBDIR)' '$(LIBDIR)/pkgconfig' '$(CMAKEDIR)'
	@install -C -m 644 include/localai_parentwatch.h include/parent_watch.h '$(INCLUDEDIR)/'
	@install -C -m 755 '$(BUILT)/liblocalai_parentwatch.so' '$(LIBDIR)/liblocalai_parentwatch.so.$(VERSION)'
	@ln -sf liblocalai_parentwatch.so.$(VERSION) '$(LIBDIR)/$(SONAME)'
	@ln -sf $(SONAME) '$(LIBDIR)/liblocalai_parentwatch.so'
	@install -C -m 644 '$(BUILT)/liblocalai_parentwatch.a' '$(LIBDIR)/'
	@install -C -m 644 '$(BUILT)/localai_parentwatch.pc' '$(LIBDIR)/pkgconfig/'
	@install -C -m 644 '$(BUILT)'/localai_parentwatch-config{,-version}.cmake '$(CMAKEDIR)/'
	@install -d '$(BINDIR)' '$(MANDIR)' '$(BASHDIR)' '$(ZSHDIR)' '$(FISHDIR)'
	@install -C -m 755 '$(BUILT)/localai-parentwatch' '$(BINDIR)/localai-parentwatch'
	@install -C -m 644 $(PAGES)/*.1 '$(MANDIR)/'
	@install -C -m 644 $(PAGES)/localai-parentwatch.bash '$(BASHDIR)/localai-parentwatch'
	@install -C -m 644 $(PAGES)/_localai-parentwatch '$(ZSHDIR)/'
	@install -C -m 644 $(PAGES)/localai-parentwatch.fish '$(FISHDIR)/'

.PHONY: uninstall
uninstall: ## remove what `make install` with the same PREFIX installed
	rm -f '$(INCLUDEDIR)'/{localai_parentwatch,parent_watch}.h '$(LIBDIR)/pkgconfig/localai_parentwatch.pc' \
		'$(CMAKEDIR)'/localai_parentwatch-config{,-version}.cmake \
		'$(LIBDIR)/liblocalai_parentwatch.a' '$(LIBDIR)/liblocalai_parentwatch.so' \
		'$(LIBDIR)/$(SONAME)' '$(LIBDIR)/liblocalai_parentwatch.so.$(VERSION)' \
		'$(BINDIR)/localai-parentwatch' '$(BASHDIR)/localai-parentwatch' \
		'$(ZSHDIR)/_localai-parentwatch' '$(FISHDIR)/localai-parentwatch.fish' \
		$(patsubst $(PAGES)/%,'$(MANDIR)/%',$(wildcard $(PAGES)/*.1))
	@# Remove the folders that are empty now, except those that every system has.
	@for folder in '$(CMAKEDIR)' '$(LIBDIR)/cmake' '$(LIBDIR)/pkgconfig' '$(BASHDIR)' '$(SHAREDIR)/bash-completion' \
			'$(ZSHDIR)' '$(SHAREDIR)/zsh' '$(FISHDIR)' '$(SHAREDIR)/fish' \
			$(if $(filter-out / /usr /usr/local,$(PREFIX)),'$(MANDIR)' '$(SHAREDIR)/man' '$(SHAREDIR)' '$(BINDIR)' \
				'$(LIBDIR)' '$(INCLUDEDIR)'); do \
		[[ ! -d $$folder ]] || rmdir --ignore-fail-on-non-empty "$$folder"; \
	done

# The installed tree that the examples and the tests use. The stamp changes only if the tree does, so nothing is rebuilt
# without need.
$(PREFIX_TEST)/.stamp: FORCE
	@$(MAKE) --no-print-directory -s install PREFIX='$(PREFIX_TEST)' DESTDIR=
	@cd '$(PREFIX_TEST)' && sum=$$(find bin include lib -type f -exec sha256sum {} + | sort) && \
		{ [[ $$(cat .stamp 2>/dev/null) == "$$sum" ]] || echo "$$sum" >.stamp; }
.PHONY: FORCE
FORCE:

.PHONY: header
header: ## regenerate include/localai_parentwatch.h from the source
	LOCALAI_PARENTWATCH_WRITE_HEADER=1 cargo test --quiet -p parentwatch-capi --test header

.PHONY: toolchains
toolchains:
	@scripts/require-toolchains.sh

-include make/python.mk
-include make/python-tests.mk
-include make/go.mk
-include make/demo.mk
-include make/cluster.mk
-include make/e2e.mk
-include make/test.mk
-include make/publish.mk
-include make/bench.mk
-include make/cpp.mk
-include make/guides.mk
-include make/dist.mk
-include make/sanitize.mk
-include make/fuzz.mk
-include make/mutations.mk
-include make/soak.mk
-include make/kernels.mk
-include make/windows.mk
-include make/macos.mk
-include make/release.mk
-include make/packages.mk
-include make/docs.mk

.PHONY: clean
clean: ## remove all build results
	rm -rf target dist
