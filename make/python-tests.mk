# The tests of the installed Python wheel. They never see its source: each installed CPython has its own environment with
# the wheel. ARGS goes to pytest, for example make check-python ARGS="-k hook".

PYTHON_TESTS := target/python-tests
PYTHON_TOOLS := $(PYTHON_TESTS)/tools
PYTHON_JOBS ?= 2
PYTHON_WHEEL = $(wildcard dist/localai_parentwatch-*.whl)
# The tests get only two things of this tree, by name. The files that they leave behind are below target/.
PYTHON_TESTS_ENV := CONTRACT_VECTORS='$(CURDIR)/crates/parentwatch/tests/contract-vectors.json' \
	PACKAGE_DOCS='$(CURDIR)/docs' PYTHONDONTWRITEBYTECODE=1 \
	HYPOTHESIS_STORAGE_DIRECTORY='$(CURDIR)/$(PYTHON_TESTS)/hypothesis'

.PHONY: check-python
check-python: wheel ## test the installed wheel with every installed CPython; its types, its ABI, its description
	@$(MAKE) --no-print-directory check-python-types check-python-files check-python-tests

.PHONY: check-python-tests
check-python-tests: $(PYTHON_TOOLS)/.stamp
	@$(PYTHON_TESTS_ENV) python3 python/tests/every_interpreter.py --wheel $(PYTHON_WHEEL) \
		--pip '$(CURDIR)/$(PYTHON_TOOLS)/bin/pip' --folder $(PYTHON_TESTS) -- \
		-m pytest -c python/tests/pytest.ini --rootdir python/tests -q -n $(PYTHON_JOBS) python/tests $(ARGS)

# Type-checks a program that uses the package, with deliberate errors, and compares the stubs with the package.
.PHONY: check-python-types
check-python-types: $(PYTHON_TOOLS)/.stamp
	@$(PYTHON_TOOLS)/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall $(PYTHON_WHEEL)
	@cd $(PYTHON_TOOLS) && bin/mypy --strict --cache-dir=.mypy_cache '$(CURDIR)/python/tests/typed_program.py'
	@cd $(PYTHON_TOOLS) && bin/stubtest localai_parentwatch

# One wheel for all supported releases. CPython 3.9, and builds without the interpreter lock, must reject it.
PYTHON_PIP_AS = $(PYTHON_TOOLS)/bin/pip download --quiet --disable-pip-version-check --no-index --no-deps \
	--only-binary :all: --find-links dist --dest $(PYTHON_TESTS)/download --implementation cp \
	--platform $$(basename '$(PYTHON_WHEEL)' .whl | cut -d - -f 5) localai-parentwatch
.PHONY: check-python-files
check-python-files: $(PYTHON_TOOLS)/.stamp
	@$(PYTHON_TOOLS)/bin/abi3audit --strict --summary $(PYTHON_WHEEL)
	@$(PYTHON_TOOLS)/bin/twine check --strict $(PYTHON_WHEEL) dist/localai_parentwatch-*.tar.gz
	@for version in 3.10 3.11 3.12 3.13 3.14; do $(PYTHON_PIP_AS) --python-version $$version --abi abi3; done
	@for version in '3.9 --abi abi3' '3.13 --abi cp313t' '3.14 --abi cp314t'; do \
		if $(PYTHON_PIP_AS) --python-version $$version 2>/dev/null; then \
			echo "pip takes the wheel for CPython $$version" >&2; exit 1; \
		fi; \
	done
	@rm -r $(PYTHON_TESTS)/download
	@echo 'pip takes the wheel for 3.10 to 3.14, and refuses it for 3.9 and for builds without the interpreter lock'

$(PYTHON_TOOLS)/.stamp: python/tests/requirements-tools.txt e2e/requirements.txt
	@python3 -m venv --clear $(PYTHON_TOOLS)
	@$(PYTHON_TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
