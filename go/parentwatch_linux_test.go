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
	"github.com/mudler/localai-parentwatch/go/internal/processtree"
)

// Without the native library.
var mode = conformance.Mode{Tier: parentwatch.TierPoll}

func TestMain(m *testing.M) {
	roles := conformance.Roles()
	roles["stderr"] = armWithStderr
	roles["busy"] = armAndBeBusy
	processtree.Main(m, roles)
}

func TestArmed(t *testing.T)            { conformance.Armed(t, mode) }
func TestF01(t *testing.T)              { conformance.F01(t, mode) }
func TestOptions(t *testing.T)          { conformance.Options(t, mode) }
func TestWatchParentDeath(t *testing.T) { conformance.WatchParentDeath(t, mode) }
func TestVectors(t *testing.T) {
	conformance.Vectors(t, "../crates/parentwatch/tests/contract-vectors.json", mode)
}

const soon = parentwatch.EnvParentWatchInterval + "=20ms"

// F11: whatever stderr is, the worker ends with status 1. Its standard input tells what it shall be.
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
		// Blocking, full, and with a reader that does not read: this process.
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

// A warning does not keep Start from returning either.
func TestStartWithAFullStderr(t *testing.T) {
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
	cmd := processtree.Command("vector", parentwatch.EnvParentWatchScope+"=tree")
	writer.Fd() // blocking again, as a child expects it
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
		if err != nil || !strings.Contains(stdout.String(), `"armed"`) {
			t.Errorf("%v: %s", err, &stdout)
		}
	case <-time.After(processtree.Deadline):
		cmd.Process.Kill()
		t.Error("Start hangs")
	}
}

// A program that never pauses on its only processor ends too.
func TestBusyProgram(t *testing.T) {
	tree, _ := conformance.Worker(t, "busy", soon, "GOMAXPROCS=1")
	tree.CheckDeath("poll")
}

func armAndBeBusy() {
	conformance.Arm()
	for n := 0; ; n++ {
		sink = n
	}
}

var sink int

// A worker that PID 1 has started is not watched, and lives.
func TestNoParent(t *testing.T) {
	cmd := processtree.Command("supervisor", "LOCALAI_PARENTWATCH_TEST_WORKER=vector", parentwatch.EnvParentPID+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		fmt.Println("SKIPPED: TestNoParent: no PID namespace to be had:", err)
		t.Skip()
	}
	if !bytes.Contains(stdout, []byte(`"After":{"State":"no_parent","Tier":0`)) || stderr.Len() > 0 {
		t.Errorf("%v: %s%s", err, stdout, &stderr)
	}
}

// A supervisor that is named and is not the parent is not followed, and a line says so.
func TestNamedSupervisor(t *testing.T) {
	tree, hello := conformance.Worker(t, "worker", soon, parentwatch.EnvParentPID+"="+fmt.Sprint(os.Getpid()))
	if hello.Status.State != parentwatch.Armed || hello.Status.Parent != tree.Supervisor() || hello.Status.Supervisor != 0 {
		t.Errorf("%+v, expected the parent %d alone", hello.Status, tree.Supervisor())
	}
	tree.CheckDeath("poll")
}

func TestChildEnvNamesThisProcess(t *testing.T) {
	pattern := fmt.Sprintf(`^LOCALAI_BACKEND_PARENT_PID=%d@[1-9][0-9]*@[1-9][0-9]*$`, os.Getpid())
	if got := parentwatch.ChildEnv(); !regexp.MustCompile(pattern).MatchString(got) {
		t.Errorf("ChildEnv() = %q", got)
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
	want := fmt.Sprintf("armed poll false <nil> %s=%d@", parentwatch.EnvParentPID, run.Process.Pid)
	if err != nil || !strings.HasPrefix(string(out), want) {
		t.Errorf("it says %s, %v; expected %s", out, err, want)
	}
}
