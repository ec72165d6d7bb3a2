// Package processtree starts real process trees for tests: the test program runs itself again as the supervisor and as
// the worker.
package processtree

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Deadline is how long a test waits for anything that must happen.
const Deadline = time.Minute

// EnvRefusePidfd, if set, makes pidfd_open fail in the processes of a tree, as on kernels before 5.3.
const EnvRefusePidfd = "LOCALAI_PARENTWATCH_TEST_REFUSE_PIDFD"

const (
	envRole   = "LOCALAI_PARENTWATCH_TEST_ROLE"
	envWorker = "LOCALAI_PARENTWATCH_TEST_WORKER"
)

// Main does the work of TestMain. In a process that was started for a role, it plays that role. Else it runs the tests,
// as a subreaper that adopts every orphan.
func Main(m *testing.M, roles map[string]func()) {
	roles["supervisor"] = supervise
	if role := os.Getenv(envRole); role != "" {
		os.Unsetenv(envRole)
		if os.Getenv(EnvRefusePidfd) != "" {
			refusePidfd()
		}
		roles[role]()
		os.Exit(0)
	}
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		fmt.Fprintln(os.Stderr, "prctl:", errno)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// refusePidfd installs a seccomp filter on every thread of this process.
func refusePidfd() {
	const pidfdOpen, prSetNoNewPrivs, setModeFilter, everyThread, refuse, allow = 434, 38, 1, 1, 0x0005_0000, 0x7fff_0000
	seccomp := map[string]uintptr{"amd64": 317, "arm64": 277}[runtime.GOARCH]
	filter := []syscall.SockFilter{
		{Code: syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS}, // the call's number
		{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K, K: pidfdOpen, Jf: 1},
		{Code: syscall.BPF_RET | syscall.BPF_K, K: refuse | uint32(syscall.ENOSYS)},
		{Code: syscall.BPF_RET | syscall.BPF_K, K: allow},
	}
	program := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_, _, errno := syscall.Syscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0)
	if errno == 0 {
		_, _, errno = syscall.Syscall(seccomp, setModeFilter, everyThread, uintptr(unsafe.Pointer(&program)))
	}
	if errno != 0 {
		panic(errno)
	}
}

// Command returns this program in a role. Its environment has only those of the contract's variables that are given.
func Command(role string, env ...string) *exec.Cmd {
	return CommandOf([]string{"/proc/self/exe"}, role, env...)
}

// CommandOf is Command for a copy of this program, with another command line.
func CommandOf(command []string, role string, env ...string) *exec.Cmd {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return strings.HasPrefix(entry, "LOCALAI_BACKEND_PARENT_")
	}), append(env, envRole+"="+role, "GORACE=atexit_sleep_ms=0 halt_on_error=1")...)
	return cmd
}

// Report sends a line of JSON from a role to its test.
func Report(value any) {
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		panic(err)
	}
}

// supervise starts the worker as LocalAI does, as the leader of its group. It lives until it is killed or the worker
// has ended.
func supervise() {
	worker := Command(os.Getenv(envWorker), contract()...)
	worker.Stdin, worker.Stdout, worker.Stderr = os.Stdin, os.Stdout, os.Stderr
	worker.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := worker.Start(); err != nil {
		panic(err)
	}
	worker.Wait()
}

// contract has the variables that Command removes from the environment.
func contract() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool {
		return !strings.HasPrefix(entry, "LOCALAI_BACKEND_PARENT_")
	})
}

// Tree is a supervisor and its worker.
type Tree struct {
	t          *testing.T
	supervisor *exec.Cmd
	worker     int
	requests   *os.File
	stdout     *os.File
	lines      *bufio.Reader
	stderr     *os.File
}

// Start starts a supervisor whose worker plays the role. It waits for the worker's first report, which must have its
// "PID".
func Start(t *testing.T, role string, hello any, env ...string) *Tree {
	t.Helper()
	tree := &Tree{t: t, supervisor: Command("supervisor", append(env, envWorker+"="+role)...)}
	var theirs []*os.File
	pipe := func(read bool) (ours, other *os.File) {
		reader, writer, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if ours, other = reader, writer; !read {
			ours, other = writer, reader
		}
		theirs = append(theirs, other)
		t.Cleanup(func() { ours.Close() })
		return ours, other
	}
	tree.stdout, tree.supervisor.Stdout = pipe(true)
	tree.lines = bufio.NewReader(tree.stdout)
	tree.stderr, tree.supervisor.Stderr = pipe(true)
	tree.requests, tree.supervisor.Stdin = pipe(false)
	err := tree.supervisor.Start()
	for _, file := range theirs {
		file.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tree.takeDown)
	var report json.RawMessage
	tree.Read(&report)
	var named struct{ PID int }
	if err := errors.Join(json.Unmarshal(report, &named), json.Unmarshal(report, hello)); err != nil {
		t.Fatal(err)
	}
	tree.worker = named.PID
	return tree
}

// Read returns the worker's next report, and waits for it.
func (tree *Tree) Read(value any) {
	tree.t.Helper()
	tree.stdout.SetReadDeadline(time.Now().Add(Deadline))
	line, err := tree.lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, value)
	}
	if err != nil {
		tree.takeDown()
		tree.t.Fatalf("no report from the worker: %v; stderr: %s", err, tree.Stderr())
	}
}

// Ask writes a line to the worker's standard input.
func (tree *Tree) Ask(request string) { fmt.Fprintln(tree.requests, request) }

// Worker returns the worker's process id.
func (tree *Tree) Worker() int { return tree.worker }

// Supervisor returns the supervisor's process id.
func (tree *Tree) Supervisor() int { return tree.supervisor.Process.Pid }

// KillSupervisor kills the supervisor with SIGKILL and reaps it.
func (tree *Tree) KillSupervisor() {
	tree.supervisor.Process.Kill()
	tree.supervisor.Wait()
}

// ReapWorker waits for the worker, which is an orphan by now, and reaps it.
func (tree *Tree) ReapWorker() syscall.WaitStatus {
	tree.t.Helper()
	var status syscall.WaitStatus
	Eventually(tree.t, fmt.Sprintf("worker %d is gone", tree.worker), func() bool {
		pid, err := syscall.Wait4(tree.worker, &status, syscall.WNOHANG, nil)
		if err != nil {
			tree.t.Fatalf("waiting for worker %d: %v", tree.worker, err)
		}
		return pid == tree.worker
	})
	tree.worker = 0
	return status
}

// Stderr returns what the processes of the tree wrote to stderr. It waits until all of them have ended.
func (tree *Tree) Stderr() string {
	tree.stderr.SetReadDeadline(time.Now().Add(Deadline))
	text, err := io.ReadAll(tree.stderr)
	if err != nil {
		return fmt.Sprintf("%s (%v)", text, err)
	}
	return string(text)
}

// CheckDeath kills the supervisor and checks that the worker ends as the contract says. who is "supervisor" if the
// worker's environment names one, else "parent".
func (tree *Tree) CheckDeath(who, tier string) {
	tree.t.Helper()
	line := fmt.Sprintf("localai-parentwatch: %s %d is gone, worker %d exits (%s)\n", who, tree.Supervisor(), tree.worker, tier)
	tree.KillSupervisor()
	if status := tree.ReapWorker(); !status.Exited() || status.ExitStatus() != 1 {
		tree.t.Errorf("the worker's wait status is %#x, expected an exit with 1", status)
	}
	if got := tree.Stderr(); !strings.HasSuffix(got, line) {
		tree.t.Errorf("stderr is %q, expected %q at its end", got, line)
	}
}

func (tree *Tree) takeDown() {
	workers := []string{}
	if tree.worker != 0 {
		workers = append(workers, strconv.Itoa(tree.worker))
	} else if pid := tree.Supervisor(); tree.supervisor.ProcessState == nil {
		// The worker has not reported yet.
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, file := range files {
			children, _ := os.ReadFile(file)
			workers = append(workers, strings.Fields(string(children))...)
		}
	}
	tree.KillSupervisor()
	for _, worker := range workers {
		if pid, err := strconv.Atoi(worker); err == nil && pid > 1 {
			syscall.Kill(pid, syscall.SIGKILL)
			syscall.Wait4(pid, nil, 0, nil)
		}
	}
	tree.worker = 0
}

// Eventually waits until the condition holds; what names it.
func Eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Deadline); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", Deadline, what)
		}
	}
}

// Threads returns the threads of a process that have the name, each with the fields of its /proc/PID/task/TID/status.
func Threads(t *testing.T, pid int, name string) []map[string]string {
	t.Helper()
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatalf("no threads of %d: %v", pid, err)
	}
	var threads []map[string]string
	for _, file := range files {
		text, _ := os.ReadFile(file) // a thread may have ended meanwhile
		fields := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.TrimSpace(value)
		}
		if name == "" || fields["Name"] == name {
			threads = append(threads, fields)
		}
	}
	return threads
}
