module github.com/mudler/localai-parentwatch/go/native

go 1.25.0

require (
	github.com/ebitengine/purego v0.11.3
	github.com/mudler/localai-parentwatch/go v0.0.0
)

// The two are developed and released together.
replace github.com/mudler/localai-parentwatch/go => ../
