package main

import (
	"os"
	"os/exec"
	"path/filepath"
)

// Guarded is the command that runs a backend under localai-parentwatch, or the command itself where that program is
// neither beside this one nor in PATH.
func Guarded(program string, args ...string) (string, []string) {
	own, _ := os.Executable()
	for _, place := range []string{filepath.Join(filepath.Dir(own), "localai-parentwatch"), "localai-parentwatch"} {
		if guard, err := exec.LookPath(place); err == nil {
			return guard, append([]string{"exec", "--", program}, args...)
		}
	}
	return program, args
}
