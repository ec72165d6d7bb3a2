# Does the suite see what is broken on purpose?

.PHONY: mutations
mutations: toolchains $(VENV)/.e2e ## break the core in five ways, and see the scenario of each turn red
	@scripts/install-packages.sh gcc libc6-dev make patch rsync util-linux
	@scripts/mutations.sh $(VENV)/bin/python
