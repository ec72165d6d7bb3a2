module github.com/mudler/localai-parentwatch/bench/worker-go

go 1.25.0

require (
	github.com/mudler/localai-parentwatch/go v0.1.0
	github.com/mudler/localai-parentwatch/go/native v0.1.0
)

require github.com/ebitengine/purego v0.11.3 // indirect

replace (
	github.com/mudler/localai-parentwatch/go => ../../go
	github.com/mudler/localai-parentwatch/go/native => ../../go/native
)
