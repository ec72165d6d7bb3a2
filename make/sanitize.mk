# Checks that need another kind of build, or run slowly.

.PHONY: sanitize
sanitize: toolchains ## run the C programs and the core under sanitizers and valgrind
	@scripts/install-packages.sh gcc libc6-dev linux-libc-dev make util-linux
	@$(MAKE) --no-print-directory '$(PREFIX_TEST)/.stamp'
	@scripts/sanitize.sh '$(PREFIX_TEST)'
