// snippet: go-pkg-grpc
