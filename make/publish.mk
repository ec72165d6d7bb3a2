# The packages for the registries, and the workflows that publish them. RELEASE.md has the steps of a release.

# The crates for crates.io.
CRATES := parentwatch parentwatch-cli
PUBLISH := target/publish
# Checks the workflows. Its version is pinned here, those of the Python tools in .github/requirements.txt.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# Built once, which takes minutes: Debian and PyPI have no recent release.
CARGO_DENY := 0.20.2
DENY := $(PUBLISH)/deny-$(CARGO_DENY)/bin/cargo-deny

.PHONY: check-publish
check-publish: ## check the crates as crates.io would get them
	@scripts/check-publish.sh $(CRATES)
	@# The names alone. `make check-notices`, which needs the toolchain of cross.sh, compares the texts.
	@cargo tree --locked -p parentwatch-capi -p parentwatch-cli -p parentwatch-python -e normal --prefix none --format '{p}' \
			--target x86_64-unknown-linux-gnu --target aarch64-apple-darwin --target x86_64-pc-windows-gnu | \
		sed -nE '/^parentwatch/!s/^([^ ]+) v([^ ]+).*/\1 \2/p' | sort -u | while read -r crate; do \
			grep -qwF "$$crate" THIRD-PARTY-LICENSES || \
				{ echo "THIRD-PARTY-LICENSES has no licence of $$crate: make notices writes it" >&2; exit 1; }; \
		done

# Only the crates that crates.io does not have yet, so that a release that failed half way can be continued.
.PHONY: publish-crates
publish-crates:
	@packages=(); for crate in $(CRATES); do \
		cargo info --quiet --registry crates-io "$$crate@$(VERSION)" >/dev/null 2>&1 || packages+=(--package "$$crate"); \
	done; \
	if (($${#packages[@]})); then cargo publish --locked $(ARGS) "$${packages[@]}"; fi

.PHONY: check-workflows
check-workflows: toolchains $(PUBLISH)/.tools ## check the workflows with actionlint and zizmor, and the other files that GitHub reads
	@scripts/install-packages.sh shellcheck
	@GOBIN='$(CURDIR)/$(PUBLISH)' scripts/retry.sh go install $(ACTIONLINT)
	$(PUBLISH)/actionlint
	@# The persona "auditor" also reports matters of taste. It does not contact GitHub.
	$(PUBLISH)/venv/bin/zizmor --quiet --offline --no-progress --persona auditor .github
	@for checked in dependabot:dependabot.yml github-issue-config:ISSUE_TEMPLATE/config.yml \
			github-issue-forms:ISSUE_TEMPLATE/bug.yml github-issue-forms:ISSUE_TEMPLATE/feature.yml; do \
		said=$$($(PUBLISH)/venv/bin/check-jsonschema --builtin-schema vendor.$${checked%%:*} .github/$${checked#*:} 2>&1) || \
			{ echo "$$said"; exit 1; }; \
	done
	@# The targets and scripts that the workflows and RELEASE.md call must exist.
	@sed 's/#.*//' .github/workflows/*.yml RELEASE.md | grep -oE '\<(make [a-z-]+|scripts/[a-z-]+\.sh)' | sort -u | \
		while read -r called; do \
			case $$called in \
				make*) grep -qE "^([a-z-]+ )*$${called#make }( [a-z-]+)*:" Makefile make/*.mk;; \
				*) test -x "$$called";; \
			esac || { echo "the workflows or RELEASE.md: $$called does not exist" >&2; exit 1; }; \
		done

$(PUBLISH)/.tools: .github/requirements.txt
	@scripts/install-packages.sh python3-venv
	@mkdir -p $(PUBLISH)
	@test -x $(PUBLISH)/venv/bin/python || python3 -m venv $(PUBLISH)/venv
	@$(PUBLISH)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

.PHONY: check-deny
check-deny: $(DENY) ## check the licences, sources and known vulnerabilities of the dependencies
	$(DENY) --locked --log-level error check bans licenses sources
	@if timeout 60 git ls-remote --quiet https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then \
		$(DENY) --locked --log-level error check advisories; \
	else \
		echo 'SKIPPED: advisories: the database at https://github.com/RustSec/advisory-db cannot be reached'; \
	fi

$(DENY):
	@cargo install --quiet --locked --root $(PUBLISH)/deny-$(CARGO_DENY) cargo-deny@$(CARGO_DENY)
