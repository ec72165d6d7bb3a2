package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestStartTime(t *testing.T) {
	// Fields 3 to 21, then 22: the start time.
	rest := " S" + strings.Repeat(" 7", 18) + " 4711 9 9\n"
	for _, name := range []string{"go", "", "a b", ")", "x) S 1 2 (y", "tab\tnewline\n"} {
		stat := fmt.Sprintf("4242 (%s)%s", name, rest)
		if got, err := startTime([]byte(stat)); err != nil || got != 4711 {
			t.Errorf("startTime(%q) = %d, %v", stat, got, err)
		}
	}
	for _, stat := range []string{"", "4242", "4242 (go)", "4242 (go) S 1 2 3", "4242 (go) S" + strings.Repeat(" x", 30)} {
		if got, err := startTime([]byte(stat)); err == nil {
			t.Errorf("startTime(%q) = %d, expected an error", stat, got)
		}
	}
}

func TestToken(t *testing.T) {
	got, err := token()
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(fmt.Sprintf(`^%d@[1-9][0-9]*@[1-9][0-9]*$`, os.Getpid())).MatchString(got) {
		t.Errorf("token() = %q", got)
	}
}
