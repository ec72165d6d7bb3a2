module github.com/mudler/localai-parentwatch/go

go 1.24.0
