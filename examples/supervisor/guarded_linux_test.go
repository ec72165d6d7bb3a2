package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	process "github.com/mudler/go-processmanager"
)

// Stop ends a program that `localai-parentwatch exec` runs as it ends any other: by SIGTERM, at once. Its guardian ends
// by itself.
func TestStopOfGuardedProgram(t *testing.T) {
	guard := os.Getenv("EXAMPLE_GUARD")
	if guard == "" {
		t.Skip("EXAMPLE_GUARD is not set")
	}
	for i := range 20 {
		program := process.New(
			process.WithName(guard),
			process.WithArgs("exec", "--", "sleep", "1000"),
			process.WithStateDir(t.TempDir()),
		)
		if err := program.Run(); err != nil {
			t.Fatal(err)
		}
		pid := program.PID
		waitUntil(t, "it is guarded", func() bool { return guardians(pid) == 1 })
		begin := time.Now()
		if err := program.Stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("round %d: Stop took %v", i, took)
		}
		waitUntil(t, "nobody is left", func() bool { return guardians(pid) == 0 })
	}
}

// How many guardians that program has.
func guardians(pid string) int {
	found := 0
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err == nil && strings.HasPrefix(string(text), fmt.Sprintf("localai-parentwatch: guarding %s ", pid)) {
			found++
		}
	}
	return found
}

func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
