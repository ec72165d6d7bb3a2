# The snippets of the guides, in places that are shaped like LocalAI's: see guides-tests. ARGS goes to pytest, for example
# make check-guides ARGS="-k cpp".

GUIDES_PACKAGES := binutils cmake debootstrap g++ git libc6-dev make pkg-config procps python3-venv util-linux

.PHONY: check-guides
check-guides: guides-packages wheel ## compile or run every snippet of the guides, where LocalAI would have it
	@$(MAKE) --no-print-directory guides-run

# Before anything is built: a make of its own builds, so that this holds for `make -j` too.
.PHONY: guides-packages
guides-packages: go-modules
	@scripts/install-packages.sh $(GUIDES_PACKAGES)

.PHONY: guides-run
guides-run: $(PREFIX_TEST)/.stamp $(VENV)/.guides
	@PATH='$(VENV)/bin':"$$PATH" $(VENV)/bin/python -m pytest -c guides-tests/pytest.ini --rootdir guides-tests -q -n 2 \
		--dist loadfile guides-tests --prefix '$(PREFIX_TEST)' --wheel $(PYTHON_WHEEL) $(ARGS)

$(VENV)/.guides: $(VENV)/.e2e guides-tests/requirements.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r guides-tests/requirements.txt
	@touch $@
