# Two Ray nodes on this machine: see examples/cluster/README.md.

CLUSTER := target/cluster

.PHONY: cluster
cluster: cluster-build ## two Ray nodes: kill one's raylet, and see its guarded engines go and its actors placed anew
	@# The outer guardian ends the rest if run.py itself is killed.
	@target/release/localai-parentwatch exec -- $(CLUSTER)/venv/bin/python examples/cluster/run.py \
		--guard target/release/localai-parentwatch $(ARGS) 2>$(CLUSTER)/ray.log || { cat $(CLUSTER)/ray.log >&2; exit 1; }

# Ray has wheels only for these.
HAS_RAY := import platform, sys; sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 14) and \
	platform.machine() in ("x86_64", "aarch64")))

.PHONY: cluster-check
cluster-check: toolchains
	@if python3 -c '$(HAS_RAY)'; then \
		$(MAKE) --no-print-directory cluster; \
	else \
		echo 'SKIPPED: cluster: Ray has wheels for Python 3.10 to 3.14 on x86-64 and arm64'; \
	fi

.PHONY: cluster-build
cluster-build: $(CLUSTER)/.stamp
	@cargo build --quiet --locked --release -p parentwatch-cli

$(CLUSTER)/.stamp: examples/cluster/requirements.txt
	@scripts/install-packages.sh python3-venv
	@echo "installing Ray"
	@test -x $(CLUSTER)/venv/bin/python || python3 -m venv $(CLUSTER)/venv
	@$(CLUSTER)/venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r $<
	@touch $@
