# The pages in docs/: the drawings, and the book.

# Debian 12 has no package. The parts that serve and watch are left out.
MDBOOK := mdbook 0.5.4 --no-default-features --features search
DRAWINGS := $(wildcard docs/drawings/*.dot)

.PHONY: book
book: ## the pages as a book, into target/book
	@scripts/cargo-tool.sh $(MDBOOK) && target/tools/bin/mdbook build && echo target/book/index.html || exit $$(($$? != 77))

.PHONY: drawings
drawings: ## write docs/drawings/*.svg anew from the .dot files
	@scripts/install-packages.sh graphviz
	@for drawing in $(DRAWINGS); do dot -Tsvg "$$drawing" -o "$${drawing%.dot}.svg"; done

# debootstrap's folders stay in target/readme.
.PHONY: check-readme
check-readme: ## every command of README.md, timed, on a bare Debian 12 and 13
	@scripts/check_readme.py bookworm
	@scripts/check_readme.py trixie
