package parentwatch_test

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	parentwatch "github.com/mudler/localai-parentwatch/go"
	"github.com/mudler/localai-parentwatch/go/internal/conformance"
	"github.com/mudler/localai-parentwatch/go/internal/driver"
	"github.com/mudler/localai-parentwatch/go/internal/processtree"
)

// The mode without the native library.
var mode = conformance.Mode{Tier: parentwatch.TierEvent}

// The mode without pidfds.
var polling = conformance.Mode{Tier: parentwatch.TierPoll, Env: []string{processtree.EnvRefusePidfd + "=1"}}

func TestMain(m *testing.M) {
	roles := conformance.Roles()
	roles["stderr"] = armWithStderr
	roles["busy"] = armAndBeBusy
	roles["look"] = lookWhileArming
	roles["answers"] = startAnotherLibrary
	processtree.Main(m, roles)
}

func TestArmed(t *testing.T)            { conformance.Armed(t, mode) }
func TestF01(t *testing.T)              { conformance.F01(t, mode) }
func TestF01Named(t *testing.T)         { conformance.F01Named(t, mode) }
func TestOptions(t *testing.T)          { conformance.Options(t, mode) }
func TestWatchParentDeath(t *testing.T) { conformance.WatchParentDeath(t, mode) }
func TestH02(t *testing.T)              { conformance.H02(t, mode, func(*processtree.Tree) {}) }
func TestVectors(t *testing.T) {
	conformance.Vectors(t, "../crates/parentwatch/tests/contract-vectors.json", mode)
}

func TestArmedPolling(t *testing.T)            { conformance.Armed(t, polling) }
func TestF01Polling(t *testing.T)              { conformance.F01(t, polling) }
func TestOptionsPolling(t *testing.T)          { conformance.Options(t, polling) }
func TestWatchParentDeathPolling(t *testing.T) { conformance.WatchParentDeath(t, polling) }
func TestH02Polling(t *testing.T)              { conformance.H02(t, polling, func(*processtree.Tree) {}) }

const soon = parentwatch.EnvParentWatchInterval + "=20ms"

// F11: whatever stderr is, the worker ends with status 1. A line on its standard input selects the kind of stderr.
func TestF11(t *testing.T) {
	for _, stderr := range []string{"closed", "/dev/full", "no reader", "full pipe"} {
		t.Run(stderr, func(t *testing.T) {
			tree, _ := conformance.Worker(t, "stderr", soon)
			tree.Ask(stderr)
			var ready bool
			tree.Read(&ready)
			tree.KillSupervisor()
			if status := tree.ReapWorker(); !status.Exited() || status.ExitStatus() != 1 {
				t.Errorf("the worker's wait status is %#x, expected an exit with 1", status)
			}
		})
	}
}

func armWithStderr() {
	conformance.Arm()
	kind, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	redirect := func(file *os.File, err error) {
		if err == nil {
			err = syscall.Dup3(int(file.Fd()), 2, 0)
		}
		if err != nil {
			panic(err)
		}
	}
	switch strings.TrimSpace(kind) {
	case "closed":
		syscall.Close(2)
	case "/dev/full":
		redirect(os.OpenFile("/dev/full", os.O_WRONLY, 0))
	case "no reader":
		reader, writer, err := os.Pipe()
		redirect(writer, err)
		reader.Close()
		writer.Close()
	case "full pipe":
		// A blocking pipe that is full. Its reader, this process, does not read.
		reader, writer, err := os.Pipe()
		redirect(writer, err)
		defer reader.Close()
		syscall.SetNonblock(2, true)
		for _, size := range []int{4096, 1} {
			for err = nil; err == nil; {
				_, err = syscall.Write(2, make([]byte, size))
			}
		}
		syscall.SetNonblock(2, false)
		go os.Stderr.WriteString("holds the lock of os.Stderr")
	}
	processtree.Report(true)
	io.Copy(io.Discard, os.Stdin)
}

// outputWithAFullStderr returns what a role reports while its stderr is full.
func outputWithAFullStderr(t *testing.T, role string) string {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	defer writer.Close()
	for err = nil; err == nil; {
		writer.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_, err = writer.Write(make([]byte, 4096))
	}
	cmd := processtree.Command(role, parentwatch.EnvParentWatchScope+"=forest")
	writer.Fd() // makes it blocking again, as a child expects
	cmd.Stderr = writer
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v: %s", err, &stdout)
		}
	case <-time.After(processtree.Deadline):
		cmd.Process.Kill()
		<-ended
		t.Error("Start hangs")
	}
	return stdout.String()
}

// Nor does a warning keep Start from returning.
func TestStartWithAFullStderr(t *testing.T) {
	if stdout := outputWithAFullStderr(t, "vector"); !strings.Contains(stdout, `"armed"`) {
		t.Errorf("%s", stdout)
	}
}

// lookWhileArming reports the longest time that a call of Status took until the watcher was armed.
func lookWhileArming() {
	var longest time.Duration
	started := make(chan struct{})
	go func() {
		close(started)
		parentwatch.Start()
	}()
	<-started
	for armed := false; !armed; {
		time.Sleep(time.Millisecond) // The scheduler rarely preempts a thread that has just slept.
		begin := time.Now()
		armed = parentwatch.Status().State == parentwatch.Armed
		longest = max(longest, time.Since(begin))
	}
	fmt.Println(longest)
}

// Start may wait 100 ms for the reader of its warning. Status does not wait meanwhile.
func TestStatusWithAFullStderr(t *testing.T) {
	// A busy machine may delay one process for as long, so try several times.
	var took []time.Duration
	for range 10 {
		longest, err := time.ParseDuration(strings.TrimSpace(outputWithAFullStderr(t, "look")))
		if err != nil {
			t.Fatal(err)
		}
		if longest < 50*time.Millisecond {
			return
		}
		took = append(took, longest)
	}
	t.Errorf("Status waits, for %v", took)
}

// otherLibrary returns from Start what a later native library may return.
type otherLibrary struct {
	driver.Driver
	word    string
	isError bool
}

func (o otherLibrary) Start(driver.Options) (string, bool) { return o.word, o.isError }
func (o otherLibrary) Status() driver.Info                 { return driver.Info{State: o.word} }

var answers = []struct {
	word    string
	isError bool
	err     string
}{
	{"armed", false, "<nil>"},
	{"dozing", false, "<nil>"},
	{"exhausted", true, "<nil>"},
	{"invalid", true, parentwatch.ErrInvalid.Error()},
	{"internal", true, `parentwatch: the native library answers "internal"`},
	{"broken", true, `parentwatch: the native library answers "broken"`},
}

func startAnotherLibrary() {
	for _, answer := range answers {
		driver.Register(func() (driver.Driver, error) { return otherLibrary{nil, answer.word, answer.isError}, nil })
		info, err := parentwatch.Start()
		fmt.Println(info.State, err)
	}
}

// A status that this version does not know is an error if it is negative.
func TestAnswersOfTheLibrary(t *testing.T) {
	out, err := processtree.Command("answers").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	for n, answer := range answers {
		if want := answer.word + " " + answer.err; n >= len(lines) || lines[n] != want {
			t.Errorf("Start says %q; expected %q in line %d", lines, want, n)
		}
	}
}

// A program that keeps its only processor busy ends too.
func TestBusyProgram(t *testing.T) {
	for _, mode := range []conformance.Mode{mode, polling} {
		tree, _ := conformance.Worker(t, "busy", append(mode.Env, soon, "GOMAXPROCS=1")...)
		tree.CheckDeath("parent", mode.Tier.String())
	}
}

func armAndBeBusy() {
	conformance.Arm()
	for n := 0; ; n++ {
		sink = n
	}
}

var sink int

// A worker that PID 1 started is not watched, and lives. The warning about a named supervisor is that of the core.
func TestNoParent(t *testing.T) {
	for named, line := range map[string]string{
		"1": "",
		"4242": "localai-parentwatch: LOCALAI_BACKEND_PARENT_PID=4242: expected a living ancestor of this process, but " +
			"only the native library can check that; watching nothing, since there is no parent\n",
	} {
		cmd := processtree.Command("supervisor", "LOCALAI_PARENTWATCH_TEST_WORKER=vector", parentwatch.EnvParentPID+"="+named)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.Output()
		if err != nil && cmd.ProcessState == nil {
			fmt.Println("SKIPPED: TestNoParent: cannot create a PID namespace:", err)
			t.Skip()
		}
		if !bytes.Contains(stdout, []byte(`"After":{"State":"no_parent","Tier":0`)) || stderr.String() != line {
			t.Errorf("named %s: %v: %s%s", named, err, stdout, &stderr)
		}
	}
}

// A named supervisor that is not the parent is not watched, and one line says so.
func TestNamedSupervisor(t *testing.T) {
	tree, hello := conformance.Worker(t, "worker", soon, parentwatch.EnvParentPID+"="+fmt.Sprint(os.Getpid()))
	if hello.Info.State != parentwatch.Armed || hello.Info.Parent != tree.Supervisor() || hello.Info.Supervisor != 0 {
		t.Errorf("%+v, expected the parent %d alone", hello.Info, tree.Supervisor())
	}
	tree.CheckDeath("parent", "event")
}

func TestTokenNamesThisProcess(t *testing.T) {
	pattern := fmt.Sprintf(`^%d@[1-9][0-9]*@[1-9][0-9]*$`, os.Getpid())
	if got := parentwatch.Token(); !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("Token() = %q", got)
	}
}

// ChildEnv names this process, and removes the supervisor that this process inherited. os.StartProcess, which would
// pass on both entries, is tried too.
func TestChildEnv(t *testing.T) {
	t.Setenv(parentwatch.EnvParentPID, "1@1@1")
	given := []string{parentwatch.EnvParentPID + "=2@2@2", "A=b"}
	for name, env := range map[string][]string{"own": nil, "given": given} {
		t.Run(name, func(t *testing.T) {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			child, err := os.StartProcess("/usr/bin/env", []string{"env"}, &os.ProcAttr{
				Env:   parentwatch.ChildEnv(env),
				Files: []*os.File{nil, writer, os.Stderr},
			})
			writer.Close()
			if err != nil {
				t.Fatal(err)
			}
			told, err := io.ReadAll(reader)
			if _, waitErr := child.Wait(); err != nil || waitErr != nil {
				t.Fatal(err, waitErr)
			}
			others, want := env, parentwatch.EnvParentPID+"="+parentwatch.Token()
			if env == nil {
				others = os.Environ()
			}
			var names []string
			for line := range strings.Lines(string(told)) {
				if line = strings.TrimSuffix(line, "\n"); strings.HasPrefix(line, parentwatch.EnvParentPID) {
					names = append(names, line)
				}
			}
			if len(names) != 1 || names[0] != want {
				t.Errorf("the child is told %q, expected %q alone", names, want)
			}
			for _, other := range others {
				if !strings.HasPrefix(other, parentwatch.EnvParentPID) && !strings.Contains(string(told), other+"\n") {
					t.Errorf("the child is not told %q", other)
				}
			}
		})
	}
	if given[0] != parentwatch.EnvParentPID+"=2@2@2" || given[1] != "A=b" {
		t.Errorf("ChildEnv has changed its argument: %q", given)
	}
}

// A program without cgo that uses this package needs no loader and no library.
func TestStaticProgramStaysStatic(t *testing.T) {
	program := filepath.Join(t.TempDir(), "static")
	build := exec.Command("go", "build", "-o", program, "./testdata/static")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	file, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP || segment.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a %v", segment.Type)
		}
	}
	run := exec.Command(program)
	run.Env = []string{}
	out, err := run.CombinedOutput()
	want := fmt.Sprintf("armed event false <nil> %d@", run.Process.Pid)
	if err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("it says %s, %v; expected %s", out, err, want)
	}
}
