package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mudler/localai-parentwatch/examples/proto/backend"
)

// workersVariable names the folder of the workers that the tests in this file run: make
// examples-check sets it.
const workersVariable = "EXAMPLE_WORKERS"

// exampleWorker is a worker that can be told how long a load blocks, and stops gracefully.
type exampleWorker struct {
	name    string
	program string // in the folder
	args    []string
	speaks  string // what its lines on stderr begin with
	helpers int    // how many descendants it has
}

var exampleWorkers = []exampleWorker{
	{name: "cpp", program: "worker-cpp", speaks: "worker-cpp"},
	{name: "go", program: "worker-go", speaks: "worker-go"},
	// Two engines, one in a session of its own, and the resource tracker of Python's multiprocessing.
	{name: "python", program: "worker-python/run.sh", speaks: "worker-python", helpers: 3},
	{name: "python, asyncio", program: "worker-python/run.sh", args: []string{"--aio"}, speaks: "worker-python", helpers: 3},
}

// atOnce is how long a worker may outlive its supervisor here: less than a graceful stop waits for its load.
const atOnce = 10 * time.Second

// supervisorVariable makes this test program a supervisor: one that can be killed.
const supervisorVariable = "EXAMPLE_SUPERVISOR"

func TestMain(m *testing.M) {
	if os.Getenv(supervisorVariable) != "" {
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A stop asked for by a signal is the worker's own business: calls under way are answered, then it
// exits with 0 and leaves no helper behind, whether or not the watcher is on.
func TestGracefulStop(t *testing.T) {
	forEachWorker(t, func(t *testing.T, example exampleWorker) {
		for _, number := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
			var told []string
			for _, watch := range []string{"on", "off"} {
				t.Run(fmt.Sprintf("%v, watcher %s", number, watch), func(t *testing.T) {
					w := startWorker(t, watch, example, "--load-seconds", "1")
					await(t, "the watcher is "+watch, func() bool { return w.isWatching() == (watch == "on") })
					loaded := w.load("m")
					await(t, "the load is under way", func() bool { return w.says("loading m") })
					helpers := w.helpers(example.helpers)
					w.signal(number)
					if err := <-loaded; err != nil {
						t.Errorf("the call that was under way: %v", err)
					}
					if status := w.exitStatus(patience); status.Signaled() || status.ExitStatus() != 0 {
						t.Errorf("it ended with %s, expected exit status 0; stderr:\n%s", describe(status), w.stderr())
					}
					await(t, "its helpers are gone", helpers.areGone)
					told = append(told, strings.ReplaceAll(w.stderr(), w.address, "ADDRESS"))
				})
			}
			want := strings.ReplaceAll("NAME: listening on ADDRESS\nNAME: loading m\nNAME: stopping\nNAME: stopped\n", "NAME", example.speaks)
			for _, text := range told {
				if text != want {
					t.Errorf("%v: stderr is\n%swanted:\n%s", number, text, want)
				}
			}
		}
	})
}

// More callers at a time than there are threads for, while a model is being loaded: each one gets its
// own answer.
func TestPredict(t *testing.T) {
	forEachWorker(t, testPredict)
}

func testPredict(t *testing.T, example exampleWorker) {
	w := startWorker(t, "on", example, "--load-seconds", "1")
	loaded := w.load("m")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const callers, calls = 16, 20
	mistakes := make(chan error, callers)
	for caller := range callers {
		go func() {
			var mistake error
			for call := range calls {
				prompt := fmt.Sprintf("%d of %d", call, caller)
				reply, err := w.client.Predict(ctx, &backend.PredictOptions{Prompt: prompt})
				if err != nil || string(reply.GetMessage()) != prompt {
					mistake = fmt.Errorf("Predict(%q) = %q, %v", prompt, reply.GetMessage(), err)
				}
			}
			mistakes <- mistake
		}()
	}
	for range callers {
		if err := <-mistakes; err != nil {
			t.Error(err)
		}
	}
	if err := <-loaded; err != nil {
		t.Errorf("LoadModel: %v", err)
	}
}

// The supervisor dies while LoadModel blocks; also when a graceful stop is waiting for that load.
func TestSupervisorDiesDuringLoad(t *testing.T) {
	forEachWorker(t, func(t *testing.T, example exampleWorker) {
		for _, stopping := range []bool{false, true} {
			t.Run(fmt.Sprintf("stopping %v", stopping), func(t *testing.T) {
				testSupervisorDiesDuringLoad(t, example, stopping)
			})
		}
	})
}

func testSupervisorDiesDuringLoad(t *testing.T, example exampleWorker, stopping bool) {
	w, supervisor := startSupervisedWorker(t, example, "--load-seconds", "300")
	loaded := w.load("m")
	await(t, "the load is under way", func() bool { return w.says("loading m") })
	helpers := w.helpers(example.helpers)
	if stopping {
		w.signal(syscall.SIGTERM)
		await(t, "the worker is stopping", func() bool { return w.says("stopping") })
	}

	pid, killed := w.pid, time.Now()
	supervisor.Process.Kill()
	supervisor.Wait() // Its worker is ours from here on.
	status := w.exitStatus(patience)
	took := time.Since(killed)
	if status.Signaled() || status.ExitStatus() != 1 {
		t.Errorf("it ended with %s, expected exit status 1; stderr:\n%s", describe(status), w.stderr())
	}
	if took > atOnce {
		t.Errorf("gone %v after its supervisor, expected at most %v", took, atOnce)
	}
	want := fmt.Sprintf("supervisor %d is gone, worker %d exits (event)", supervisor.Process.Pid, pid)
	if !w.says(want) {
		t.Errorf("no %q in:\n%s", want, w.stderr())
	}
	if err := <-loaded; err == nil {
		t.Error("LoadModel was answered: it did not block")
	}
	await(t, "its helpers are gone", helpers.areGone)
	t.Logf("gone %v after its supervisor", took.Round(time.Microsecond))
}

// forEachWorker runs a test on every example, with the path of its program, all at once.
func forEachWorker(t *testing.T, test func(*testing.T, exampleWorker)) {
	folder := os.Getenv(workersVariable)
	if folder == "" {
		t.Skipf("%s does not name the folder of the workers", workersVariable)
	}
	for _, example := range exampleWorkers {
		t.Run(example.name, func(t *testing.T) {
			t.Parallel()
			example.program = filepath.Join(folder, example.program)
			test(t, example)
		})
	}
}

// runningWorker is a worker that answers Health, and a child of this process, now or in the end.
type runningWorker struct {
	t          *testing.T
	pid        int
	address    string
	stderrPath string
	client     backend.BackendClient
}

// starting is held from when a port is chosen until a worker listens on it: until then another one may be given
// the same.
var starting sync.Mutex

// startWorker starts a worker without any supervisor but this process.
func startWorker(t *testing.T, watch string, example exampleWorker, args ...string) *runningWorker {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	w := &runningWorker{
		t:          t,
		address:    net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[0])),
		stderrPath: filepath.Join(t.TempDir(), "stderr"),
	}
	stderr, err := os.Create(w.stderrPath)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	args = slices.Concat(example.args, args, []string{"--addr", w.address})
	command := exec.Command(example.program, args...)
	command.Env = append(os.Environ(), "LOCALAI_BACKEND_PARENT_WATCH="+watch)
	command.Stderr = stderr
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	w.pid = command.Process.Pid
	w.connect()
	return w
}

// startSupervisedWorker starts a supervisor in a process of its own, and a worker below it.
func startSupervisedWorker(t *testing.T, example exampleWorker, args ...string) (*runningWorker, *exec.Cmd) {
	t.Helper()
	// Orphans come to this process, which sees their exit status then.
	const prSetChildSubreaper = 36
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		t.Fatal(errno)
	}
	// The supervisor gives its workers an address and nothing else.
	script := filepath.Join(t.TempDir(), "worker")
	args = slices.Concat(example.args, args)
	text := fmt.Sprintf("#!/bin/sh\nexec '%s' %s \"$@\"\n", example.program, strings.Join(args, " "))
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}

	supervisor := exec.Command(os.Args[0], "--ready-timeout", patience.String(), "--state-dir", t.TempDir(),
		"--worker", "worker="+script)
	supervisor.Env = append(os.Environ(), supervisorVariable+"=1", "LOCALAI_BACKEND_PARENT_WATCH=on")
	supervisor.Stderr = os.Stderr
	stdout, err := supervisor.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	starting.Lock()
	defer starting.Unlock()
	if err := supervisor.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { supervisor.Process.Kill(); supervisor.Wait() })
	var line worker
	if err := json.NewDecoder(stdout).Decode(&line); err != nil {
		t.Fatalf("no line from the supervisor: %v", err)
	}
	w := &runningWorker{t: t, pid: line.PID, address: line.address(), stderrPath: filepath.Join(line.StateDir, "stderr")}
	w.connect()
	return w, supervisor
}

// connect waits until the worker answers, and sees to it that it does not outlive the test.
func (w *runningWorker) connect() {
	w.t.Helper()
	// A number belongs to the worker until it is reaped, which exitStatus does, and sets it to 0.
	w.t.Cleanup(func() {
		if w.pid != 0 {
			helpers := w.descendants()
			syscall.Kill(w.pid, syscall.SIGKILL)
			syscall.Wait4(w.pid, nil, 0, nil)
			helpers.kill()
		}
	})
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	if err := askHealth(ctx, w.address); err != nil {
		w.t.Fatalf("%v; stderr:\n%s", err, w.stderr())
	}
	connection, err := grpc.NewClient("passthrough:///"+w.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { connection.Close() })
	w.client = backend.NewBackendClient(connection)
}

// load calls LoadModel; what comes of it is sent when it is answered.
func (w *runningWorker) load(model string) <-chan error {
	loaded := make(chan error, 1)
	go func() {
		result, err := w.client.LoadModel(w.t.Context(), &backend.ModelOptions{Model: model})
		if err == nil && (!result.GetSuccess() || result.GetMessage() != "loaded "+model) {
			err = fmt.Errorf("LoadModel: %v", result)
		}
		loaded <- err
	}()
	return loaded
}

// isWatching says whether the worker has a thread of the name that the library gives to its own.
func (w *runningWorker) isWatching() bool {
	w.t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", w.pid))
	if err != nil || len(names) == 0 {
		w.t.Fatalf("the threads of worker %d: %v", w.pid, err)
	}
	for _, name := range names {
		// A thread that has ended since is not the one.
		if text, err := os.ReadFile(name); err == nil && string(text) == "parent-watch\n" {
			return true
		}
	}
	return false
}

// stat is a process that has not ended: its parent, and when it began, since its number may pass to another.
type stat struct {
	pid, parent int
	started     string
}

// processes are all of this machine.
func processes(t *testing.T) []stat {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(paths) == 0 {
		t.Fatalf("the processes of this machine: %v", err)
	}
	var found []stat
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // It has ended since.
		}
		// After the name, which may hold anything: the state, the parent, and as the 20th the start time.
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) > 19 && fields[0] != "Z" {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			parent, _ := strconv.Atoi(fields[1])
			found = append(found, stat{pid, parent, fields[19]})
		}
	}
	return found
}

// helpers are processes: when each began, by its number.
type helpers struct {
	t       *testing.T
	started map[int]string
}

// descendants are those of the worker as they are now, in whatever group or session.
func (w *runningWorker) descendants() helpers {
	w.t.Helper()
	h := helpers{w.t, map[int]string{}}
	all := processes(w.t)
	for family, grown := []int{w.pid}, true; grown; {
		grown = false
		for _, p := range all {
			if h.started[p.pid] == "" && slices.Contains(family, p.parent) {
				h.started[p.pid] = p.started
				family, grown = append(family, p.pid), true
			}
		}
	}
	return h
}

// helpers waits until the worker has as many descendants as it should have.
func (w *runningWorker) helpers(count int) helpers {
	w.t.Helper()
	var h helpers
	await(w.t, fmt.Sprintf("the worker has %d helpers", count), func() bool {
		h = w.descendants()
		return len(h.started) == count
	})
	w.t.Cleanup(h.kill)
	return h
}

func (h helpers) alive() []int {
	var pids []int
	for _, p := range processes(h.t) {
		if h.started[p.pid] == p.started {
			pids = append(pids, p.pid)
		}
	}
	return pids
}

func (h helpers) kill() {
	for _, pid := range h.alive() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}

func (h helpers) areGone() bool { return len(h.alive()) == 0 }

func (w *runningWorker) signal(number syscall.Signal) {
	w.t.Helper()
	if err := syscall.Kill(w.pid, number); err != nil {
		w.t.Fatal(err)
	}
}

// exitStatus waits for the end of the worker, and reaps it.
func (w *runningWorker) exitStatus(limit time.Duration) syscall.WaitStatus {
	w.t.Helper()
	var status syscall.WaitStatus
	deadline := time.Now().Add(limit)
	for {
		pid, err := syscall.Wait4(w.pid, &status, syscall.WNOHANG, nil)
		switch {
		case err != nil && err != syscall.EINTR:
			w.t.Fatalf("waiting for the worker: %v", err)
		case err == nil && pid == w.pid:
			w.pid = 0
			return status
		case time.Now().After(deadline):
			w.t.Fatalf("worker %d is still there after %v; stderr:\n%s", w.pid, limit, w.stderr())
		}
		time.Sleep(time.Millisecond)
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return fmt.Sprintf("the signal %q", status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

func (w *runningWorker) stderr() string {
	w.t.Helper()
	text, err := os.ReadFile(w.stderrPath)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

func (w *runningWorker) says(text string) bool { return strings.Contains(w.stderr(), text) }

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
