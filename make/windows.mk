# The library and the program for Windows, and process trees that use them.

.PHONY: test-windows
test-windows: ## the library and the program for Windows, and process trees, under Wine (ARGS="SCENARIO...")
	@scripts/test-windows.sh $(ARGS)
