package model

import (
	"os"
	"path/filepath"

	process "github.com/mudler/go-processmanager"

	// snippet: child-env-import
)

// StartProcess starts a backend: in its own folder, with its output in files.
func StartProcess(grpcProcess, serverAddress, stateDir string, args ...string) (*process.Process, error) {
	workDir, err := filepath.Abs(filepath.Dir(grpcProcess))
	if err != nil {
		return nil, err
	}
	env := os.Environ()
	// snippet: child-env
	// snippet: guarded-call
	started := process.New(
		process.WithStateDir(stateDir),
		// snippet: guarded-options
		process.WithEnvironment(env...),
		process.WithWorkDir(workDir),
	)
	return started, started.Run()
}
