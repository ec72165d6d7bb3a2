module github.com/mudler/localai-parentwatch/go/native

go 1.25.0

require (
	// 0.11.0 at least: with 0.10 syscall.Setuid and its like panic in a program without cgo (TestH03).
	github.com/ebitengine/purego v0.11.3
	github.com/mudler/localai-parentwatch/go v0.1.0
)

// For this repository: go does not look at the replace lines of a module that others ask for.
replace github.com/mudler/localai-parentwatch/go => ../
