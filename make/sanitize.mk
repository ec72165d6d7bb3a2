# The checks that need a program built another way, or run slowly.

.PHONY: sanitize
sanitize: toolchains ## the C programs and the core under sanitizers and valgrind
	@scripts/install-packages.sh gcc libc6-dev linux-libc-dev make util-linux
	@$(MAKE) --no-print-directory '$(PREFIX_TEST)/.stamp'
	@scripts/sanitize.sh '$(PREFIX_TEST)'
