// Package worker starts programs of other makers.
package worker

import (
	"os"
	"os/exec"

	parentwatch "github.com/mudler/localai-parentwatch/go"

	"example.org/localai/pkg/model"
)

// Run starts a program as a child, and waits for it.
func Run(grpcProcess string, args ...string) error {
	// snippet: p2p-worker
	cmd.Stdout = os.Stdout
	return cmd.Run()
}
