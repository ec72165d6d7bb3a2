module example.org/localai

go 1.25.0

require github.com/mudler/go-processmanager v0.1.2-0.20260720195933-3d64f5c974fc

// snippet: go-mod
// snippet: go-mod-native
