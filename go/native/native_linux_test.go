//go:build !android && (amd64 || arm64)

package native

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ebitengine/purego"
	parentwatch "github.com/mudler/localai-parentwatch/go"
	"github.com/mudler/localai-parentwatch/go/internal/conformance"
	"github.com/mudler/localai-parentwatch/go/internal/processtree"
)

// The library is found through LOCALAI_PARENTWATCH_LIBRARY or by the dynamic loader.
var mode = conformance.Mode{Native: true, Tier: parentwatch.TierEvent}

// The library is imported but missing.
var missing = conformance.Mode{Tier: parentwatch.TierEvent, Env: []string{EnvLibrary + "=/nowhere/library.so"}, Lines: 1}

func TestMain(m *testing.M) {
	roles := conformance.Roles()
	for name, role := range map[string]func(){
		"import": importOnly, "environment": setEnvironment, "host": beAHost, "blocked": waitInTheLibrary,
		"loading": startAndTell, "off": startSwitchedOff,
	} {
		roles[name] = role
	}
	// With a umask of 002, a group could write to the files of the tests.
	syscall.Umask(0o022)
	processtree.Main(m, roles)
}

func TestArmed(t *testing.T)            { conformance.Armed(t, mode) }
func TestF01(t *testing.T)              { conformance.F01(t, mode) }
func TestF01Named(t *testing.T)         { conformance.F01Named(t, mode) }
func TestOptions(t *testing.T)          { conformance.Options(t, mode) }
func TestWatchParentDeath(t *testing.T) { conformance.WatchParentDeath(t, mode) }
func TestVectors(t *testing.T) {
	conformance.Vectors(t, "../../crates/parentwatch/tests/contract-vectors.json", mode)
}

func TestArmedWithoutTheLibrary(t *testing.T)            { conformance.Armed(t, missing) }
func TestF01WithoutTheLibrary(t *testing.T)              { conformance.F01(t, missing) }
func TestOptionsWithoutTheLibrary(t *testing.T)          { conformance.Options(t, missing) }
func TestWatchParentDeathWithoutTheLibrary(t *testing.T) { conformance.WatchParentDeath(t, missing) }

// ask runs a role and reads its one report.
func ask(t *testing.T, report any, role string, env ...string) (stderr string) {
	t.Helper()
	return answer(t, report, processtree.Command(role, env...))
}

func answer(t *testing.T, report any, cmd *exec.Cmd) (stderr string) {
	t.Helper()
	var text bytes.Buffer
	cmd.Stderr = &text
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killer := time.AfterFunc(processtree.Deadline, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	killer.Stop()
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), report)
	}
	if err != nil {
		t.Fatalf("%v; stdout %q, stderr %s", err, &stdout, &text)
	}
	return text.String()
}

// mapped returns the file of the loaded library.
func mapped() string {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		panic(err)
	}
	for line := range strings.Lines(string(maps)) {
		if at := strings.IndexByte(line, '/'); at >= 0 && strings.Contains(line, "liblocalai_parentwatch") {
			return strings.TrimSpace(line[at:])
		}
	}
	return ""
}

func importOnly() {
	parentwatch.Enabled()
	parentwatch.Interval()
	parentwatch.ChildEnv(nil)
	before := mapped()
	parentwatch.Status()
	processtree.Report([]string{before, mapped()})
}

func TestImportOpensNothing(t *testing.T) {
	var seen []string
	ask(t, &seen, "import")
	if seen[0] != "" || seen[1] == "" {
		t.Errorf("the library is loaded from %q at first, and from %q once it was needed", seen[0], seen[1])
	}
}

// startSwitchedOff makes every call while the watcher is switched off, then switches it on, and off again.
func startSwitchedOff() {
	parentwatch.Status()
	parentwatch.WatchParentDeath(0, 0, nil)
	info, err := parentwatch.Start(parentwatch.WithScope(parentwatch.ScopeProcess))
	processtree.Report([]string{fmt.Sprintln(info.State, info.Native, info.LoadError, err), mapped()})
	_, invalid := parentwatch.Start(parentwatch.WithScope(4))
	os.Unsetenv(parentwatch.EnvParentWatch)
	parentwatch.Start()
	os.Setenv(parentwatch.EnvParentWatch, "off")
	info = parentwatch.Status()
	processtree.Report([]string{fmt.Sprintln(info.State, info.Native, invalid), mapped()})
}

// A program that the library harms can be helped by the switch: the library is not opened, and nothing is printed.
func TestSwitchedOff(t *testing.T) {
	for library, native := range map[string]bool{installed(t): true, "/nowhere/library.so": false, "/dev": false} {
		cmd := processtree.Command("off", parentwatch.EnvParentWatch+"=off", EnvLibrary+"="+library)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, &stderr)
		}
		reports := json.NewDecoder(bytes.NewReader(stdout))
		var off, on []string
		if err := errors.Join(reports.Decode(&off), reports.Decode(&on)); err != nil {
			t.Fatal(err)
		}
		if off[0] != "disabled false <nil> <nil>\n" || off[1] != "" {
			t.Errorf("%s: %q, expected nothing to be opened", library, off)
		}
		// Once armed, it stays armed.
		if expected := fmt.Sprintln(parentwatch.Armed, native, parentwatch.ErrInvalid); on[0] != expected || (on[1] != "") != native {
			t.Errorf("%s, on: %q, expected %s", library, on, expected)
		}
		if lines := strings.Count(stderr.String(), "\n"); native && lines != 0 || !native && lines != 1 {
			t.Errorf("%s: stderr is %q", library, &stderr)
		}
	}
}

func setEnvironment() {
	os.Setenv(parentwatch.EnvParentWatchInterval, "7s")
	os.Unsetenv(parentwatch.EnvParentWatchScope)
	os.Setenv(parentwatch.EnvParentPID, strconv.Itoa(os.Getppid()))
	conformance.Arm()
}

// What the program sets before Start counts, although the library reads the environment of the C library.
func TestSetenv(t *testing.T) {
	var hello conformance.Hello
	stderr := ask(t, &hello, "environment", parentwatch.EnvParentWatchScope+"=process", parentwatch.EnvParentPID+"=soon")
	if hello.Info.Interval != 7*time.Second || hello.Info.Scope != parentwatch.ScopeTree || stderr != "" {
		t.Errorf("%+v; stderr %q", hello.Info, stderr)
	}
}

// H02: there is one watcher thread.
func TestH02(t *testing.T) {
	conformance.H02(t, mode, func(tree *processtree.Tree) { watcherOf(t, tree) })
}

// If there is no parent to watch, no line says that a parent is watched.
func TestNoParentWithoutTheLibrary(t *testing.T) {
	cmd := processtree.Command("supervisor", append(missing.Env, "LOCALAI_PARENTWATCH_TEST_WORKER=vector")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER}
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		fmt.Println("SKIPPED: TestNoParentWithoutTheLibrary: cannot create a PID namespace:", err)
		t.Skip()
	}
	if !bytes.Contains(out, []byte(`"After":{"State":"no_parent","Tier":0`)) || bytes.Contains(out, []byte("watching")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestH02WithoutTheLibrary(t *testing.T) {
	conformance.H02(t, missing, func(*processtree.Tree) {})
}

// watcherOf waits until a worker's one watcher thread sleeps, and returns its status in /proc. The kernel shows a
// thread as sleeping shortly before it counts the context switch: so the counts must be the same twice.
func watcherOf(t *testing.T, tree *processtree.Tree) map[string]string {
	t.Helper()
	var watcher, before map[string]string
	processtree.Eventually(t, "one watcher thread sleeps", func() bool {
		threads := processtree.Threads(t, tree.Worker(), "parent-watch")
		before, watcher = watcher, nil
		if len(threads) == 1 && strings.HasPrefix(threads[0]["State"], "S") {
			watcher = threads[0]
		}
		return watcher != nil && before != nil &&
			watcher["voluntary_ctxt_switches"] == before["voluntary_ctxt_switches"] &&
			watcher["nonvoluntary_ctxt_switches"] == before["nonvoluntary_ctxt_switches"]
	})
	return watcher
}

// beAHost is a watched program that does, on request, what Go programs do.
func beAHost() {
	conformance.Arm(parentwatch.WithInterval(time.Hour))
	for requests := bufio.NewScanner(os.Stdin); requests.Scan(); {
		done := map[string]func(){"work": work, "signal": handleSignals, "setuid": setuid, "exec": execute}[requests.Text()]
		done()
		processtree.Report(requests.Text())
	}
}

// work keeps the only processor busy, with the profiler and the garbage collector running.
func work() {
	if err := pprof.StartCPUProfile(io.Discard); err != nil {
		panic(err)
	}
	defer pprof.StopCPUProfile()
	var usage syscall.Rusage
	for spent := time.Duration(0); spent < 500*time.Millisecond; {
		waste := make([][]byte, 100)
		for i := range waste {
			waste[i] = make([]byte, 10_000)
		}
		runtime.GC()
		syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
		spent = time.Duration(usage.Utime.Nano())
	}
}

// handleSignals sends itself every signal that a program can handle, ten times each, and waits for them.
func handleSignals() {
	signals := make(chan os.Signal, 100)
	for _, s := range []syscall.Signal{
		syscall.SIGUSR1, syscall.SIGHUP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD, syscall.SIGPIPE,
	} {
		signal.Notify(signals, s)
		for range 10 {
			syscall.Kill(os.Getpid(), s)
			for got := os.Signal(nil); got != s; {
				got = <-signals
			}
		}
		signal.Stop(signals)
	}
}

func setuid() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Setuid(65534); err != nil {
		panic(err)
	}
}

// execute starts a child. It must have no blocked signal and no descriptor of the watcher.
func execute() {
	out, err := exec.Command("sh", "-c", "grep SigBlk /proc/self/status; ls -l /proc/self/fd").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("SigBlk:\t0000000000000000")) || bytes.Contains(out, []byte("pidfd")) {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
}

// H03, H07: the watcher does not disturb a Go program, nor the program the watcher.
func TestH03(t *testing.T) {
	tree, _ := conformance.Worker(t, "host", "GOMAXPROCS=1")
	before := watcherOf(t, tree)

	// SIGKILL and SIGSTOP, the signals that a fault of the thread raises, and the two that glibc uses.
	blocked, err := strconv.ParseUint(before["SigBlk"], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	free := ^blocked
	for _, s := range []syscall.Signal{
		syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGSYS, syscall.SIGTRAP, syscall.SIGSEGV, syscall.SIGBUS,
		syscall.SIGILL, syscall.SIGFPE, 32, 33,
	} {
		free &^= 1 << (s - 1)
	}
	if free != 0 {
		t.Errorf("signal %d may be handled on the watcher's thread", bits.TrailingZeros64(free)+1)
	}

	requests := []string{"work", "signal", "exec"}
	if os.Geteuid() == 0 {
		requests = append(requests, "setuid", "signal", "exec")
	} else {
		fmt.Println("SKIPPED: TestH03, setuid: not run as root")
	}
	for _, request := range requests {
		tree.Ask(request)
		var done string
		tree.Read(&done)
		if done != request {
			t.Fatalf("%q instead of %q", done, request)
		}
		after := watcherOf(t, tree)
		for _, key := range []string{"voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"} {
			// glibc makes every thread call setuid, by a signal.
			if after[key] != before[key] && request != "setuid" {
				t.Errorf("%s: %s of the watcher went from %s to %s", request, key, before[key], after[key])
			}
		}
		before = after
	}
	if os.Geteuid() == 0 {
		for _, thread := range processtree.Threads(t, tree.Worker(), "") {
			if uid := thread["Uid"]; uid != "65534\t65534\t65534\t65534" {
				t.Errorf("thread %s still has the user ids %q", thread["Name"], uid)
			}
		}
	}
	tree.CheckDeath("parent", "event")
}

// waitingInTheLibrary counts the goroutines that wait in a call of the library.
func waitingInTheLibrary() (waiting int) {
	stacks := make([]byte, 1<<20)
	for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		// goroutine 7 [syscall]:
		header, calls, _ := strings.Cut(stack, "\n")
		if strings.Contains(header, "[syscall") && strings.Contains(calls, "WaitForExit") {
			waiting++
		}
	}
	return waiting
}

// waitInTheLibrary makes more goroutines wait in the library than there are processors, and does other work meanwhile.
func waitInTheLibrary() {
	for range 8 {
		go parentwatch.WatchParentDeath(os.Getppid(), time.Hour, func() { os.Exit(7) })
	}
	for end := time.Now().Add(processtree.Deadline); waitingInTheLibrary() < 8; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			panic("no eight threads wait in the library")
		}
	}
	ping, pong := make(chan int), make(chan int)
	go func() {
		for n := range ping {
			pong <- n + 1
		}
	}()
	for n := 0; n < 10_000; n++ {
		ping <- n
		<-pong
	}
	processtree.Report(conformance.Hello{PID: os.Getpid()})
	io.Copy(io.Discard, os.Stdin)
}

// Goroutines that wait in the library do not keep others from running.
func TestWaitingStarvesNobody(t *testing.T) {
	tree, _ := conformance.Worker(t, "blocked", "GOMAXPROCS=1")
	tree.KillSupervisor()
	if status := tree.ReapWorker(); !status.Exited() || status.ExitStatus() != 7 {
		t.Errorf("the worker's wait status is %#x, expected an exit with 7", status)
	}
}

// Token is implemented in Go too. It must agree with the core.
func TestTokenIsTheCores(t *testing.T) {
	if _, err := open(); err != nil {
		t.Fatal(err)
	}
	var token func(*byte, uintptr) int32
	handle, err := purego.Dlopen(mapped(), purego.RTLD_NOW)
	if err != nil {
		t.Fatal(err)
	}
	purego.RegisterLibFunc(&token, handle, "localai_parentwatch_token")
	buffer := make([]byte, 64)
	length := token(&buffer[0], uintptr(len(buffer)))
	if got, want := parentwatch.Token(), string(buffer[:length]); got != want {
		t.Errorf("Token() = %q, the core's is %q", got, want)
	}
}
