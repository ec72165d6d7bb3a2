# Tests of the library and the program for Windows, with process trees.

.PHONY: test-windows
test-windows: ## test the library, the program and process trees for Windows under Wine (ARGS="SCENARIO...")
	@scripts/test-windows.sh $(ARGS)
