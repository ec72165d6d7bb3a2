# The Python package: see pyproject.toml.

# Panic messages would contain the paths of the dependencies on this machine: replace them.
SHIPPED := RUSTFLAGS="$${RUSTFLAGS:-} --remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=cargo"

.PHONY: wheel wheel-toolchains
wheel-toolchains:
	@scripts/require-toolchains.sh rust python

wheel: wheel-toolchains $(VENV)/.wheel ## build the Python package in dist/: a wheel for this kind of machine, and its sources
	@# The source distribution has the lock file of the whole workspace. Cargo reduces it when it builds from there.
	@mkdir -p dist && out=$$(mktemp -d target/wheel.XXXXXX) && trap 'rm -rf "$$out"' EXIT && \
		$(SHIPPED) $(VENV)/bin/maturin build --quiet --locked --out "$$out" && \
		$(VENV)/bin/maturin sdist --out "$$out" && \
		rm -f dist/localai_parentwatch-* && mv "$$out"/* dist/
	@ls -l dist/localai_parentwatch-*

.PHONY: check-wheel
check-wheel: wheel ## check the files of `make wheel`: contents, size, exports, and a build from the source distribution
	@scripts/check-wheel.sh dist

$(VENV)/.wheel: python/requirements-build.txt
	@test -x $(VENV)/bin/python || python3 -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
