# Does the suite see what is broken on purpose?

.PHONY: mutations
mutations: toolchains $(VENV)/.e2e ## break the core in eleven ways, and see the scenario of each turn red
	@scripts/install-packages.sh gcc libc6-dev make patch rsync util-linux
	@scripts/mutations.sh $(VENV)/bin/python

CARGO_MUTANTS_VERSION := 27.1.0

.PHONY: mutants
mutants: toolchains target/tools/bin/cargo-mutants ## every small change to what decides (config, identity, machine), against the unit tests
	@PATH='$(CURDIR)/target/tools/bin':"$$PATH" CARGO_TARGET_DIR='$(CURDIR)/target/mutants/build' cargo mutants -p parentwatch \
		--output target/mutants -- --lib

target/tools/bin/cargo-mutants:
	cargo install --quiet --locked cargo-mutants --version $(CARGO_MUTANTS_VERSION) --root target/tools
