# Many random trees at once, from a seed: see e2e/soak/README.md. And the table of the suite: docs/scenarios.md.

SOAK_MINUTES ?= 10
# Without a seed, the soak chooses one and prints it.
SEED ?=

.PHONY: soak
soak: e2e-programs $(VENV)/.e2e ## run seeded scenarios over many trees at once (SOAK_MINUTES=10 SEED=…)
	@cd e2e && '$(VENV)/bin/python' -m soak --minutes $(SOAK_MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

.PHONY: soak-check
soak-check: e2e-programs $(VENV)/.e2e ## check that the soak finds wrong watchers, broken workers, and trees that leave something behind
	@cd e2e && '$(VENV)/bin/python' -m soak.check

# The suite may fail: then the table shows where.
SCENARIOS_RUN := target/e2e/scenarios.xml
.PHONY: scenarios
scenarios: e2e-programs $(VENV)/.e2e ## run the suite, and write docs/scenarios.md from it
	@rm -f $(SCENARIOS_RUN)
	-$(VENV)/bin/python -m pytest -c e2e/pytest.ini --rootdir e2e -n $(E2E_JOBS) --quiet --junit-xml $(SCENARIOS_RUN) e2e
	$(VENV)/bin/python e2e/scenarios_table.py --run $(SCENARIOS_RUN) --write docs/scenarios.md

.PHONY: check-scenarios
check-scenarios: $(VENV)/.e2e
	$(VENV)/bin/python e2e/scenarios_table.py --check docs/scenarios.md
