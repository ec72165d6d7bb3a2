# What the registries get, and the workflows that bring it there. RELEASE.md has the steps of a release.

# crates.io gets these.
CRATES := parentwatch parentwatch-cli
PUBLISH := target/publish
# Looks at the workflows. Its version is pinned here, those of the tools in Python in .github/requirements.txt.
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
# Built once, for minutes: no package of Debian or PyPI has one of this year.
CARGO_DENY := 0.20.2
DENY := $(PUBLISH)/deny-$(CARGO_DENY)/bin/cargo-deny

.PHONY: check-publish
check-publish: ## the crates as crates.io would have them
	@scripts/check-publish.sh $(CRATES)

# Those that crates.io does not have yet, so that a release that failed half way can go on.
.PHONY: publish-crates
publish-crates:
	@packages=(); for crate in $(CRATES); do \
		cargo info --quiet --registry crates-io "$$crate@$(VERSION)" >/dev/null 2>&1 || packages+=(--package "$$crate"); \
	done; \
	if (($${#packages[@]})); then cargo publish --locked $(ARGS) "$${packages[@]}"; fi

.PHONY: check-workflows
check-workflows: toolchains $(PUBLISH)/.tools ## the workflows, by actionlint and zizmor, and what else GitHub reads
	@scripts/install-packages.sh shellcheck
	@GOBIN='$(CURDIR)/$(PUBLISH)' scripts/retry.sh go install $(ACTIONLINT)
	$(PUBLISH)/actionlint
	@# Persona auditor: also what is only a matter of taste. Nothing is asked of GitHub.
	$(PUBLISH)/venv/bin/zizmor --quiet --offline --no-progress --persona auditor .github
	@for checked in dependabot:dependabot.yml github-issue-config:ISSUE_TEMPLATE/config.yml \
			github-issue-forms:ISSUE_TEMPLATE/bug.yml github-issue-forms:ISSUE_TEMPLATE/feature.yml; do \
		said=$$($(PUBLISH)/venv/bin/check-jsonschema --builtin-schema vendor.$${checked%%:*} .github/$${checked#*:} 2>&1) || \
			{ echo "$$said"; exit 1; }; \
	done
	@# What is called there, and by those who release, exists.
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
check-deny: $(DENY) ## licences and sources of the dependencies, and what is known against them
	$(DENY) --locked --log-level error check bans licenses sources
	@if timeout 60 git ls-remote --quiet https://github.com/RustSec/advisory-db HEAD >/dev/null 2>&1; then \
		$(DENY) --locked --log-level error check advisories; \
	else \
		echo 'SKIPPED: advisories: the database at https://github.com/RustSec/advisory-db cannot be reached'; \
	fi

$(DENY):
	@cargo install --quiet --locked --root $(PUBLISH)/deny-$(CARGO_DENY) cargo-deny@$(CARGO_DENY)
