# Tests of the installed library from the outside: see cpp-tests/CMakeLists.txt.

CPP := target/cpp
CPP_PACKAGES := binutils clang cmake g++ libgtest-dev make nlohmann-json3-dev pkg-config python3-venv util-linux
# Two compilers, and two sanitizers for the C++ code.
CPP_CONFIGURATIONS := gcc clang thread address

.PHONY: check-cpp
check-cpp: cpp-packages ## test the installed and moved package with C and C++: two compilers, sanitizers, CMake 3.15
	@$(MAKE) --no-print-directory -j1 check-install static-size $(CPP_CONFIGURATIONS:%=check-cpp-%)

# Runs before anything is built: another make does the build, so the order also holds with `make -j`.
.PHONY: cpp-packages
cpp-packages: toolchains
	@scripts/install-packages.sh $(CPP_PACKAGES)

.PHONY: check-install
check-install: lib
	@scripts/check-install.sh

.PHONY: static-size
static-size: $(PREFIX_TEST)/.stamp ## check how much the static library adds to a stripped C++ program
	@scripts/static-size.sh '$(PREFIX_TEST)'

# Installed as a packager does, then moved into another prefix: no file may contain the old path.
CPP_PREFIX := $(CURDIR)/$(CPP)/moved/deps/parentwatch
$(CPP)/moved/.stamp: $(PREFIX_TEST)/.stamp
	@rm -rf $(CPP)/stage $(CPP)/moved
	@$(MAKE) --no-print-directory -s install DESTDIR='$(CURDIR)/$(CPP)/stage' PREFIX=/opt/before
	@mkdir -p $(CPP)/moved/deps
	@mv $(CPP)/stage/opt/before '$(CPP_PREFIX)'
	@touch $@

# The oldest CMake that the package supports, from PyPI.
CPP_CMAKE := $(CURDIR)/$(CPP)/cmake-3.15/bin/cmake
ifeq ($(shell uname -m),x86_64)
CPP_CMAKES := cmake;$(CPP_CMAKE)
$(CPP_CMAKE):
	@python3 -m venv $(CPP)/cmake-3.15
	@$(CPP)/cmake-3.15/bin/pip install --quiet --disable-pip-version-check cmake==3.15.3
else
CPP_CMAKES := cmake
.PHONY: $(CPP_CMAKE)
$(CPP_CMAKE):
	@echo 'SKIPPED: consumers with CMake 3.15: there is no binary of it for $(shell uname -m)'
endif

# Each installed release of rustc builds the second Rust library of a program once.
CPP_RUSTCS = $(shell for toolchain in $$(rustup toolchain list 2>/dev/null | cut -d ' ' -f 1); do \
		rustc=$$(rustup which --toolchain "$$toolchain" rustc) && echo "$$("$$rustc" --version | tr ' ' -) $$rustc"; \
	done | sort -u -k 1,1 | cut -d ' ' -f 2)
empty :=
CPP_RUSTCS_OPTION = $(addprefix -DPARENTWATCH_RUSTCS=,$(subst $(empty) ,;,$(strip $(CPP_RUSTCS))))

CPP_OPTIONS_gcc = -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ '-DPARENTWATCH_CMAKES=$(CPP_CMAKES)' '$(CPP_RUSTCS_OPTION)'
CPP_OPTIONS_unpacked = $(CPP_OPTIONS_gcc)
CPP_OPTIONS_clang := -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
CPP_OPTIONS_thread := -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ -DPARENTWATCH_SANITIZER=thread -DCMAKE_BUILD_TYPE=Debug
CPP_OPTIONS_address := -DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ -DPARENTWATCH_SANITIZER=address,undefined -DCMAKE_BUILD_TYPE=Debug

# `unpacked` is for what scripts/check-dist.sh has unpacked: CPP_PREFIX says where.
CPP_CHECKS := $(CPP_CONFIGURATIONS:%=check-cpp-%) check-cpp-unpacked
.PHONY: $(CPP_CHECKS)
check-cpp-gcc: $(CPP_CMAKE)
check-cpp-unpacked: cpp-packages $(CPP_CMAKE)
$(CPP_CONFIGURATIONS:%=check-cpp-%): $(CPP)/moved/.stamp
$(CPP_CHECKS): check-cpp-%:
	@echo "cpp-tests, $*:"
	@# CMake has cached what it found of the package, which may have changed.
	@rm -f $(CPP)/$*/CMakeCache.txt
	@cmake -S cpp-tests -B $(CPP)/$* -DCMAKE_PREFIX_PATH='$(CPP_PREFIX)' $(CPP_OPTIONS_$*) \
		-DPARENTWATCH_VECTORS='$(CURDIR)/crates/parentwatch/tests/contract-vectors.json' \
		>$(CPP)/$*.log 2>&1 || { cat $(CPP)/$*.log; exit 1; }
	@MAKEFLAGS= cmake --build $(CPP)/$* --parallel 2 >$(CPP)/$*.log 2>&1 || { cat $(CPP)/$*.log; exit 1; }
	@# Older sanitizer runtimes fail with the address randomisation of newer kernels.
	@plainly=(); if setarch -R true 2>/dev/null; then plainly=(setarch -R); fi; \
		cd $(CPP)/$* && MAKEFLAGS= "$${plainly[@]}" ctest --parallel 2 --output-on-failure --timeout 1200
