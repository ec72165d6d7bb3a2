// Package conformance has the tests that must pass both with the native library and without it.
package conformance

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	parentwatch "github.com/mudler/localai-parentwatch/go"
	"github.com/mudler/localai-parentwatch/go/internal/processtree"
)

// Mode is how the program under test watches.
type Mode struct {
	Native bool
	// Tier of an armed worker.
	Tier parentwatch.Tier
	// Env selects the mode: it is added to the environment of the tests.
	Env []string
	// Lines that Start writes in addition to those of the contract.
	Lines int
}

// Roles are the processes of the tests below.
func Roles() map[string]func() {
	return map[string]func(){
		"worker": worker, "named": namedWorker, "thousand": armFromAThousand, "vector": vector, "calls": calls,
		"watch-parent-death": watchParentDeath, "watch-nobody": watchNobody,
	}
}

// Hello is the first report of a worker.
type Hello struct {
	PID   int
	Info  parentwatch.Info
	Error string
}

// Arm starts the watcher and reports.
func Arm(opts ...parentwatch.Option) {
	info, err := parentwatch.Start(opts...)
	info.LoadError = nil // an interface, which JSON cannot read back
	processtree.Report(Hello{os.Getpid(), info, fmt.Sprint(err)})
}

func worker() {
	Arm()
	io.Copy(io.Discard, os.Stdin)
}

// F01 is the scenario of that name: the supervisor is SIGKILLed.
func F01(t *testing.T, mode Mode) {
	interval := time.Hour
	if mode.Tier == parentwatch.TierPoll {
		interval = 20 * time.Millisecond
	}
	tree, _ := Worker(t, "worker", append(mode.Env, parentwatch.EnvParentWatchInterval+"="+interval.String())...)
	tree.CheckDeath("parent", mode.Tier.String())
}

func namedWorker() {
	os.Setenv(parentwatch.EnvParentPID, strconv.Itoa(os.Getppid()))
	worker()
}

// F01Named is F01 for a worker whose supervisor is named in its environment.
func F01Named(t *testing.T, mode Mode) {
	tree, _ := Worker(t, "named", mode.Env...)
	tree.CheckDeath("supervisor", mode.Tier.String())
}

func armFromAThousand() {
	var together sync.WaitGroup
	begin := make(chan struct{})
	words := make([]string, 1000)
	for i := range words {
		together.Add(1)
		go func() {
			defer together.Done()
			<-begin
			parentwatch.Status()
			info, err := parentwatch.Start()
			// On a machine that stalls, a call may give up waiting for the first one. Call again.
			for info.State == parentwatch.NotStarted && err == nil {
				info, err = parentwatch.Start()
			}
			words[i] = fmt.Sprintln(info.State, info.Native, err)
		}()
	}
	close(begin)
	together.Wait()
	processtree.Report(Hello{PID: os.Getpid(), Error: strings.Join(slices.Compact(words), "")})
	io.Copy(io.Discard, os.Stdin)
}

// H02: many goroutines call Start at once. All get the same result, and one watcher ends the process.
func H02(t *testing.T, mode Mode, check func(*processtree.Tree)) {
	tree, hello := Worker(t, "thousand", append(mode.Env, parentwatch.EnvParentWatchInterval+"=20ms")...)
	if expected := fmt.Sprintf("armed %v <nil>\n", mode.Native); hello.Error != expected {
		t.Errorf("the answers are %q, expected %q", hello.Error, expected)
	}
	check(tree)
	tree.CheckDeath("parent", mode.Tier.String())
}

// Armed checks the Info of a worker whose supervisor lives.
func Armed(t *testing.T, mode Mode) {
	tree, hello := Worker(t, "worker", mode.Env...)
	scope := parentwatch.ScopeTree
	if !mode.Native {
		scope = parentwatch.ScopeProcess
	}
	expected := parentwatch.Info{
		State: parentwatch.Armed, Tier: mode.Tier, Native: mode.Native, Parent: tree.Supervisor(),
		Interval: 2 * time.Second, Scope: scope, GraceSet: !mode.Native,
	}
	if hello.Info != expected || hello.Error != "<nil>" {
		t.Errorf("Start = %+v, %v; expected %+v", hello.Info, hello.Error, expected)
	}
}

// Worker starts a tree whose worker begins with Arm.
func Worker(t *testing.T, role string, env ...string) (*processtree.Tree, Hello) {
	t.Helper()
	var hello Hello
	tree := processtree.Start(t, role, &hello, env...)
	return tree, hello
}

// seen is what the process of a vector reports.
type seen struct {
	Enabled       bool
	Interval      time.Duration
	Before, After parentwatch.Info
}

func vector() {
	report := seen{Enabled: parentwatch.Enabled(), Interval: parentwatch.Interval(), Before: parentwatch.Status()}
	parentwatch.Start()
	report.After = parentwatch.Status()
	report.Before.LoadError, report.After.LoadError = nil, nil
	processtree.Report(report)
}

// row is one of the contract's vectors. Fields that are nil are not checked.
type row struct {
	Env        map[string]string `json:"env"`
	EnvHex     map[string]string `json:"env_hex"`
	Enabled    *bool             `json:"enabled"`
	IntervalNS *time.Duration    `json:"interval_ns"`
	Scope      *string           `json:"scope"`
	GraceNS    json.RawMessage   `json:"grace_ns"`
	Supervisor json.RawMessage   `json:"supervisor"`
	Warns      *int              `json:"warns"`
}

// Vectors reads the contract's table and checks each row in a separate process.
func Vectors(t *testing.T, path string, mode Mode) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Vectors []row }
	if err := json.Unmarshal(text, &table); err != nil {
		t.Fatal(err)
	}
	if len(table.Vectors) < 182 {
		t.Fatalf("the table was cut: %d rows", len(table.Vectors))
	}
	for i, row := range table.Vectors {
		t.Run(strconv.Itoa(i), func(t *testing.T) { row.check(t, mode) })
	}
}

func (row row) check(t *testing.T, mode Mode) {
	env := slices.Clone(mode.Env)
	for name, value := range row.Env {
		env = append(env, name+"="+value)
	}
	for name, digits := range row.EnvHex {
		value, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		env = append(env, name+"="+string(value))
	}
	cmd := processtree.Command("vector", env...)
	// A worker that leads no group has no group to end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	defer func() {
		if t.Failed() {
			t.Logf("environment %q, stdout %s, stderr %s", env, stdout, &stderr)
		}
	}()

	var named struct{ PID int }
	namesSomebody := row.Supervisor != nil && json.Unmarshal(row.Supervisor, &named) == nil && named.PID != 0
	const unproven = ": expected a living ancestor"
	if row.Warns != nil {
		lines := strings.Count(stderr.String(), ": expected ") - strings.Count(stderr.String(), unproven)
		if lines != *row.Warns {
			t.Errorf("%d warnings, expected %d", lines, *row.Warns)
		}
	}
	if namesSomebody && mode.Native && strings.Contains(stderr.String(), fmt.Sprintf("supervisor %d is gone", named.PID)) {
		// If the uptime is less than the token's start time, the supervisor is proven to be dead.
		if cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("exit status %d", cmd.ProcessState.ExitCode())
		}
		return
	}
	var got seen
	if err = errors.Join(err, json.Unmarshal(stdout, &got)); err != nil {
		t.Fatal(err)
	}
	state := parentwatch.Armed
	if row.Enabled != nil {
		if got.Enabled != *row.Enabled {
			t.Errorf("Enabled() = %v", got.Enabled)
		}
		if !*row.Enabled {
			state = parentwatch.Disabled
			if stderr.Len() > 0 {
				t.Error("switched off, and something was written to stderr")
			}
		}
	}
	if got.Before.State != parentwatch.NotStarted || got.After.State != state {
		t.Errorf("states %s and %s, expected %s at last", got.Before.State, got.After.State, state)
	}
	if state == parentwatch.Armed && (got.After.Parent != os.Getpid() || got.After.Native != mode.Native) {
		t.Errorf("parent %d, native %v", got.After.Parent, got.After.Native)
	}
	if row.IntervalNS != nil {
		for _, interval := range []time.Duration{got.Interval, got.Before.Interval, got.After.Interval} {
			if interval != *row.IntervalNS {
				t.Errorf("an interval is %v, expected %v", interval, *row.IntervalNS)
			}
		}
	}
	if row.Scope != nil {
		after := *row.Scope
		if !mode.Native && state == parentwatch.Armed {
			after = parentwatch.ScopeProcess.String()
		}
		if got.Before.Scope.String() != *row.Scope || got.After.Scope.String() != after {
			t.Errorf("scopes %v, %v, expected %s, %s", got.Before.Scope, got.After.Scope, *row.Scope, after)
		}
	}
	if row.GraceNS != nil {
		var grace *time.Duration
		if err := json.Unmarshal(row.GraceNS, &grace); err != nil {
			t.Fatal(err)
		}
		expected := parentwatch.Info{GraceSet: grace != nil}
		if grace != nil {
			expected.Grace = *grace
		}
		after := expected
		if !mode.Native && state == parentwatch.Armed {
			after = parentwatch.Info{GraceSet: true}
		}
		if got.Before.Grace != expected.Grace || got.Before.GraceSet != expected.GraceSet ||
			got.After.Grace != after.Grace || got.After.GraceSet != after.GraceSet {
			t.Errorf("graces %+v, %+v, expected %+v, %+v", got.Before, got.After, expected, after)
		}
	}
	if row.Supervisor != nil {
		lines := strings.Count(stderr.String(), unproven)
		isParent := named.PID == os.Getpid()
		isWatched := got.After.Supervisor == named.PID
		if namesSomebody && !isParent && !isWatched && lines != 1 || !namesSomebody && (lines != 0 || got.After.Supervisor != 0) {
			t.Errorf("supervisor %d, %d lines about it", got.After.Supervisor, lines)
		}
	}
}

// call is what the role "calls" reports about each call.
type call struct {
	Info  parentwatch.Info
	Error string
}

// sequence returns the options of successive calls in one process.
func sequence(parent int) [][]parentwatch.Option {
	type list = []parentwatch.Option
	second := parentwatch.WithInterval(time.Second)
	self := parentwatch.WithParent(strconv.Itoa(parent))
	none := parentwatch.WithGrace(0)
	return []list{
		{parentwatch.WithInterval(9 * time.Millisecond)},
		{parentwatch.WithInterval(time.Hour + 1)},
		{parentwatch.WithInterval(0)},
		{parentwatch.WithInterval(-time.Second)},
		{parentwatch.WithScope(4)},
		{parentwatch.WithGrace(-1)},
		{parentwatch.WithGrace(time.Hour + 1)},
		{parentwatch.WithParent("")},
		{parentwatch.WithParent("soon")},
		{parentwatch.WithParent(strconv.Itoa(parent) + "\x00")},
		{second, self, parentwatch.WithScope(parentwatch.ScopeProcess), none},
		{},
		{none},
		{parentwatch.WithScope(0)},
		{parentwatch.WithScope(4), parentwatch.WithScope(0)},
		{parentwatch.WithParent("0" + strconv.Itoa(parent))},
		{parentwatch.Option{}},
		{second, self, parentwatch.WithScope(parentwatch.ScopeProcess)},
		{parentwatch.WithInterval(2 * time.Second)},
		{parentwatch.WithScope(parentwatch.ScopeGroup)},
		{parentwatch.WithScope(parentwatch.ScopeTree)},
		{parentwatch.WithGrace(time.Second)},
		{parentwatch.WithParent("1")},
	}
}

// expected has the state after each call of sequence, and whether the call was refused.
var expected = []struct {
	state   parentwatch.State
	refused bool
}{
	{parentwatch.NotStarted, true}, {parentwatch.NotStarted, true}, {parentwatch.NotStarted, true}, {parentwatch.NotStarted, true},
	{parentwatch.NotStarted, true}, {parentwatch.NotStarted, true}, {parentwatch.NotStarted, true}, {parentwatch.NotStarted, true},
	{parentwatch.NotStarted, true}, {parentwatch.NotStarted, true},
	{parentwatch.Armed, false}, {parentwatch.Armed, false}, {parentwatch.Armed, false}, {parentwatch.Armed, false},
	{parentwatch.Armed, false}, {parentwatch.Armed, false}, {parentwatch.Armed, false}, {parentwatch.Armed, false},
	{parentwatch.Armed, true}, {parentwatch.Armed, true}, {parentwatch.Armed, true}, {parentwatch.Armed, true}, {parentwatch.Armed, true},
}

func calls() {
	for _, opts := range sequence(os.Getppid()) {
		info, err := parentwatch.Start(opts...)
		info.LoadError = nil
		report := call{info, ""}
		if err != nil {
			report.Error = err.Error()
		}
		processtree.Report(report)
	}
}

// Options checks which options are accepted, before and after the watcher is armed. An option overrides a bad value in
// the environment without a warning.
func Options(t *testing.T, mode Mode) {
	cmd := processtree.Command("calls", append(mode.Env, parentwatch.EnvParentWatchInterval+"=garbage",
		parentwatch.EnvParentWatchScope+"=forest", parentwatch.EnvParentWatchGrace+"=never", parentwatch.EnvParentPID+"=soon")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if lines := strings.Count(stderr.String(), "\n"); lines != mode.Lines {
		t.Errorf("%d lines on stderr, expected %d: %s", lines, mode.Lines, &stderr)
	}
	reports := json.NewDecoder(bytes.NewReader(stdout))
	for i, want := range expected {
		var got call
		if err := reports.Decode(&got); err != nil {
			t.Fatal(err)
		}
		refusal := ""
		if want.refused {
			refusal = parentwatch.ErrInvalid.Error()
		}
		if got.Info.State != want.state || got.Error != refusal {
			t.Errorf("call %d: %+v, expected %+v", i, got, want)
		}
		if want.state == parentwatch.Armed && (got.Info.Interval != time.Second || got.Info.Scope != parentwatch.ScopeProcess ||
			got.Info.Grace != 0 || !got.Info.GraceSet) {
			t.Errorf("call %d: %+v is not what was armed", i, got)
		}
	}
}

// watchParentDeath is LocalAI's own test of watchParentDeath, with other names.
func watchParentDeath() {
	go parentwatch.WatchParentDeath(os.Getppid(), 50*time.Millisecond, func() { os.Exit(7) })
	processtree.Report(Hello{PID: os.Getpid()})
	io.Copy(io.Discard, os.Stdin)
}

// watchNobody reports which of the process ids that nobody has to wait for were taken for a death.
func watchNobody() {
	deaths := []int{}
	for _, pid := range []int{1, 0, -1, math.MinInt} {
		parentwatch.WatchParentDeath(pid, 0, func() { deaths = append(deaths, pid) })
	}
	processtree.Report(deaths)
}

// WatchParentDeath checks the function of that name.
func WatchParentDeath(t *testing.T, mode Mode) {
	tree, _ := Worker(t, "watch-parent-death", mode.Env...)
	tree.KillSupervisor()
	if status := tree.ReapWorker(); !status.Exited() || status.ExitStatus() != 7 {
		t.Errorf("the worker's wait status is %#x, expected an exit with 7", status)
	}
	if stderr := tree.Stderr(); strings.Count(stderr, "\n") != mode.Lines {
		t.Errorf("stderr is %q, expected %d lines", stderr, mode.Lines)
	}
	nobody, err := processtree.Command("watch-nobody", mode.Env...).CombinedOutput()
	if err != nil || string(nobody) != "[]\n" {
		t.Errorf("%v: %q, expected no death and no output", err, nobody)
	}
	// The lower 32 bits of the second one are the parent's process id.
	for _, pid := range []int{os.Getpid(), os.Getppid() | math.MaxInt&^math.MaxUint32} {
		died := make(chan struct{})
		go parentwatch.WatchParentDeath(pid, -time.Hour, func() { close(died) })
		select {
		case <-died:
		case <-time.After(processtree.Deadline):
			t.Errorf("%d is not the parent, and its death was waited for", pid)
		}
	}
}
