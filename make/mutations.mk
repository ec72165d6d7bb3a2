# Does the suite notice faults that are made on purpose?

.PHONY: mutations
mutations: toolchains $(VENV)/.e2e ## break the core in eleven ways, and check that a scenario fails for each
	@scripts/install-packages.sh gcc libc6-dev make patch rsync util-linux
	@scripts/mutations.sh $(VENV)/bin/python

CARGO_MUTANTS_VERSION := 27.1.0

.PHONY: mutants
mutants: toolchains target/tools/bin/cargo-mutants ## run the unit tests with every small change to the code that decides
	@PATH='$(CURDIR)/target/tools/bin':"$$PATH" CARGO_TARGET_DIR='$(CURDIR)/target/mutants/build' cargo mutants -p parentwatch \
		--output target/mutants -- --lib

target/tools/bin/cargo-mutants:
	cargo install --quiet --locked cargo-mutants --version $(CARGO_MUTANTS_VERSION) --root target/tools
