package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience is for what is going to happen, sooner or later.
const patience = 2 * time.Minute

// A command line that makes no sense is answered by one line on stderr and status 2.
func TestUsageErrors(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"", "no worker given"},
		{"--worker cpp", `invalid value "cpp" for flag -worker: expected KIND=PATH`},
		{"--worker ../cpp=/bin/true", "a kind is a plain word"},
		{"--worker a=/bin/true --worker a=/bin/false", `the kind "a" is given twice`},
		{"--worker a=/bin/true --guarded a=/bin/false", `the kind "a" is given twice`},
		{"--worker a=/bin/true --workers 0", "--workers is 0"},
		{"--worker a=/bin/true --workers many", `invalid value "many"`},
		{"--worker a=/bin/true --ready-timeout 0s", "--ready-timeout is 0s"},
		{"--worker a=/bin/true more", `unexpected argument "more"`},
		{"--nonsense", "flag provided but not defined"},
		{"health", "no address given"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(strings.Fields(test.args), &stdout, &stderr)
		got := stderr.String()
		if status != 2 || stdout.Len() > 0 || strings.Count(got, "\n") != 1 || !strings.Contains(got, test.want) {
			t.Errorf("run(%q) = %d, stdout %q, stderr %q; expected 2 and %q", test.args, status, &stdout, got, test.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"--help", "health --help"} {
		var stdout, stderr bytes.Buffer
		if status := run(strings.Fields(args), &stdout, &stderr); status != 0 || stderr.Len() > 0 || !strings.HasPrefix(stdout.String(), "Usage: supervisor") {
			t.Errorf("run(%q) = %d, stdout %q, stderr %q", args, status, &stdout, &stderr)
		}
	}
}

// A worker that cannot serve is named in one line, with what it said last, and nothing is reported.
func TestFailingWorker(t *testing.T) {
	for _, test := range []struct{ worker, want string }{
		{"/bin/false", "worker bad (/bin/false) ended before it answered Health"},
		{"/bin/cat", "its last line: Try '/bin/cat --help'"},
		{"/nonexistent", "cannot be started"},
	} {
		var stdout, stderr bytes.Buffer
		args := []string{"--ready-timeout", patience.String(), "--state-dir", t.TempDir(), "--worker", "bad=" + test.worker}
		status := run(args, &stdout, &stderr)
		got := stderr.String()
		if status != 1 || stdout.Len() > 0 || strings.Count(got, "\n") != 1 || !strings.Contains(got, test.want) {
			t.Errorf("%s: %d, stdout %q, stderr %q; expected 1 and %q", test.worker, status, &stdout, got, test.want)
		}
	}
}

// A guarded worker is run by the program that guards it, where there is one, and by itself where there is none.
func TestGuarded(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if name, args := Guarded("/bin/worker", "--addr", "x"); name != "/bin/worker" || !slices.Equal(args, []string{"--addr", "x"}) {
		t.Errorf("without the program: %s %q", name, args)
	}
	guard := filepath.Join(os.Getenv("PATH"), "localai-parentwatch")
	if err := os.WriteFile(guard, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	want := []string{"exec", "--", "/bin/worker", "--addr", "x"}
	if name, args := Guarded("/bin/worker", "--addr", "x"); name != guard || !slices.Equal(args, want) {
		t.Errorf("with the program: %s %q", name, args)
	}
}

func TestHealthOfNobody(t *testing.T) {
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	address := (&worker{Port: ports[0]}).address()
	var stdout, stderr bytes.Buffer
	status := run([]string{"health", "--timeout", "100ms", address}, &stdout, &stderr)
	if status != 1 || !strings.HasPrefix(stdout.String(), `{"addr":"`+address+`","ok":false,"error":`) {
		t.Errorf("health = %d, stdout %q, stderr %q", status, &stdout, &stderr)
	}
}

func TestFreePortsAreDifferent(t *testing.T) {
	ports, err := freePorts(50)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]bool{}
	for _, port := range ports {
		if seen[port] || port == 0 {
			t.Fatalf("freePorts(50) = %v", ports)
		}
		seen[port] = true
	}
}
