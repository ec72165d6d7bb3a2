# The pages in docs/: the drawings, and the book.

# Built once, for minutes: Debian 12 has no package. Without the parts that serve and watch.
MDBOOK_VERSION := 0.5.4
MDBOOK := target/mdbook-$(MDBOOK_VERSION)/bin/mdbook
DRAWINGS := $(wildcard docs/drawings/*.dot)

$(MDBOOK):
	@cargo install --quiet --locked --root target/mdbook-$(MDBOOK_VERSION) --no-default-features --features search \
		mdbook@$(MDBOOK_VERSION)

.PHONY: book
book: $(MDBOOK) ## the pages as a book, into target/book
	@$(MDBOOK) build
	@echo 'target/book/index.html'

.PHONY: drawings
drawings: ## write docs/drawings/*.svg anew from the .dot files
	@scripts/install-packages.sh graphviz
	@for drawing in $(DRAWINGS); do dot -Tsvg "$$drawing" -o "$${drawing%.dot}.svg"; done

# debootstrap's folders stay in target/readme.
.PHONY: check-readme
check-readme: ## every command of README.md, timed, on a bare Debian 12 and 13
	@scripts/check_readme.py bookworm
	@scripts/check_readme.py trixie
