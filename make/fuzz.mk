# Fuzzing: FUZZ_SECONDS for each target, starting from the kept corpus (fuzz/corpus/TARGET.zip). New inputs go to
# target/fuzz/corpus. `make fuzz-corpus` keeps those of them that reach new code.
FUZZ := target/fuzz
FUZZ_SECONDS ?= 60
FUZZ_TARGETS := duration environment c_structs
CARGO_FUZZ_VERSION := 0.13.2
CARGO_FUZZ := target/tools/bin/cargo-fuzz
FUZZ_RUN = CARGO_TARGET_DIR='$(CURDIR)/$(FUZZ)/build' PATH='$(CURDIR)/target/tools/bin':"$$PATH" cargo +nightly fuzz run --fuzz-dir fuzz

.PHONY: fuzz
fuzz: fuzz-tools ## fuzz the environment's values and the C structs (FUZZ_SECONDS=60 each)
	@for target in $(FUZZ_TARGETS); do \
		mkdir -p $(FUZZ)/corpus/$$target; \
		python3 -m zipfile -e fuzz/corpus/$$target.zip $(FUZZ)/corpus/$$target; \
		$(FUZZ_RUN) $$target $(FUZZ)/corpus/$$target -- -max_total_time=$(FUZZ_SECONDS) >$(FUZZ)/$$target.log 2>&1 || \
			{ tail -40 $(FUZZ)/$$target.log; exit 1; }; \
		echo "$$target: $$(grep '^Done' $(FUZZ)/$$target.log), nothing found"; \
	done

.PHONY: fuzz-corpus
fuzz-corpus: fuzz-tools ## keep the inputs of the last `make fuzz` that reach new code
	@for target in $(FUZZ_TARGETS); do \
		rm -rf $(FUZZ)/kept/$$target && mkdir -p $(FUZZ)/kept/$$target; \
		$(FUZZ_RUN) $$target $(FUZZ)/kept/$$target $(FUZZ)/corpus/$$target -- -merge=1 >$(FUZZ)/$$target.log 2>&1 || \
			{ tail -40 $(FUZZ)/$$target.log; exit 1; }; \
		(cd $(FUZZ)/kept/$$target && python3 -m zipfile -c '$(CURDIR)'/fuzz/corpus/$$target.zip *); \
		echo "$$target: $$(ls $(FUZZ)/kept/$$target | wc -l) inputs kept"; \
	done

.PHONY: fuzz-tools
fuzz-tools: toolchains $(CARGO_FUZZ)
	@scripts/install-packages.sh g++ make
	@rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal

$(CARGO_FUZZ):
	cargo install --quiet --locked cargo-fuzz --version $(CARGO_FUZZ_VERSION) --root target/tools
