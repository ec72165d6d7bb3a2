module github.com/mudler/localai-parentwatch/examples/supervisor

go 1.24.0

require (
	github.com/mudler/go-processmanager v0.1.2-0.20260720195933-3d64f5c974fc
	github.com/mudler/localai-parentwatch/examples/proto v0.0.0
	github.com/mudler/localai-parentwatch/go v0.1.0
	google.golang.org/grpc v1.80.0
)

require (
	golang.org/x/net v0.49.0 // indirect
	golang.org/x/sys v0.40.0 // indirect
	golang.org/x/text v0.33.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260120221211-b8f7ae30c516 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace (
	github.com/mudler/localai-parentwatch/examples/proto => ../proto
	github.com/mudler/localai-parentwatch/go => ../../go
)
