package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	process "github.com/mudler/go-processmanager"

	parentwatch "github.com/mudler/localai-parentwatch/go"
)

// startAttempts is how often a worker that ends before it answers is started, each time on
// another port: one that was free when it was chosen may be taken when the worker listens on it.
const startAttempts = 3

// stopTimeout is how long a worker may take to follow a SIGTERM.
const stopTimeout = 2 * time.Second

var (
	errEnded       = errors.New("ended before it answered Health")
	errInterrupted = errors.New("stopped before every worker was ready")
)

// poolConfig says what a pool consists of.
type poolConfig struct {
	programs []program
	count    int           // workers of each kind
	stateDir string        // "": a temporary one, which goes with the pool
	timeout  time.Duration // for a worker to answer Health
}

// pool is every worker of this supervisor.
type pool struct {
	workers []*worker
	tempDir string // "": none to be removed
}

// startPool starts all workers at once and returns when every one of them answers Health. When
// one does not, none is left running.
func startPool(ctx context.Context, config poolConfig) (*pool, error) {
	// Step 1 of docs/integration-localai.md: the supervisor names itself.
	environment := parentwatch.ChildEnv(nil)
	p := &pool{}
	stateDir := config.stateDir
	if stateDir == "" {
		tempDir, err := os.MkdirTemp("", "supervisor-")
		if err != nil {
			return nil, err
		}
		p.tempDir, stateDir = tempDir, tempDir
	}
	ports, err := freePorts(len(config.programs) * config.count)
	if err != nil {
		p.stop()
		return nil, err
	}
	for _, program := range config.programs {
		for i := range config.count {
			p.workers = append(p.workers, &worker{
				Kind:     program.kind,
				Port:     ports[len(p.workers)],
				StateDir: filepath.Join(stateDir, fmt.Sprintf("%s-%d", program.kind, i+1)),
				path:     program.path,
				guarded:  program.guarded,
			})
		}
	}

	starting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wait sync.WaitGroup
	for _, w := range p.workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			if err := w.start(starting, environment, config.timeout); err != nil {
				cancel(fmt.Errorf("worker %s (%s) %w", w.Kind, w.path, err)) // The first one counts.
			}
		}()
	}
	wait.Wait()
	err = context.Cause(starting)
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// stop ends all workers gracefully, all at once.
func (p *pool) stop() {
	var wait sync.WaitGroup
	for _, w := range p.workers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			w.stop()
		}()
	}
	wait.Wait()
	if p.tempDir != "" {
		os.RemoveAll(p.tempDir)
	}
}

// worker is one worker, and one line of the supervisor's output.
type worker struct {
	Kind     string `json:"kind"`
	Guarded  bool   `json:"guarded,omitempty"` // it is run by localai-parentwatch exec
	PID      int    `json:"pid"`
	Port     int    `json:"port"`
	StateDir string `json:"state_dir"` // where its stdout and stderr are

	path    string
	guarded bool             // run by localai-parentwatch exec, where there is one
	process *process.Process // nil: not started
}

// command is the program to start, and its arguments.
func (w *worker) command() (string, []string) {
	args := []string{"--addr", w.address()}
	if !w.guarded {
		return w.path, args
	}
	// Step 2: a program that is not linked with the library runs under a guardian, as the same process.
	name, args := Guarded(w.path, args...)
	w.Guarded = name != w.path
	return name, args
}

func (w *worker) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(w.Port)) }

// start runs the worker until it answers Health, on another port if the first is taken.
func (w *worker) start(ctx context.Context, environment []string, timeout time.Duration) error {
	for attempt := 1; ; attempt++ {
		err := w.startOnce(ctx, environment, timeout)
		if err == nil {
			return nil
		}
		w.stop()
		if !errors.Is(err, errEnded) || attempt == startAttempts {
			return w.explain(err)
		}
		ports, err := freePorts(1)
		if err != nil {
			return err
		}
		w.Port = ports[0]
	}
}

// startOnce is LocalAI's way to start a backend: in a process group of its own, without a standard
// input, with its output in files.
func (w *worker) startOnce(ctx context.Context, environment []string, timeout time.Duration) error {
	name, args := w.command()
	started := process.New(
		process.WithName(name),
		process.WithArgs(args...),
		process.WithEnvironment(environment...),
		process.WithStateDir(w.StateDir),
		process.WithGracefulTimeout(stopTimeout),
	)
	if err := started.Run(); err != nil {
		return fmt.Errorf("cannot be started: %w", err)
	}
	w.process = started
	var err error
	if w.PID, err = strconv.Atoi(started.CurrentPID()); err != nil {
		return errEnded // The number is forgotten as soon as the process is reaped.
	}

	ctx, cancel := context.WithTimeoutCause(ctx, timeout,
		fmt.Errorf("did not answer Health within %v", timeout))
	defer cancel()
	ctx, ended := context.WithCancelCause(ctx)
	defer ended(nil)
	go func() {
		select {
		case <-started.Done():
			ended(errEnded)
		case <-ctx.Done():
		}
	}()
	if err := askHealth(ctx, w.address()); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// stop ends the worker if it runs: SIGTERM first, SIGKILL when that did not help.
func (w *worker) stop() {
	if w.process == nil {
		return
	}
	select {
	case <-w.process.Done():
		return
	default:
	}
	// An error says that it has just ended by itself.
	_ = w.process.Stop()
}

// explain adds the last line that the worker wrote to its stderr, where there is one.
func (w *worker) explain(err error) error {
	stderr, readErr := os.ReadFile(filepath.Join(w.StateDir, "stderr"))
	lines := bytes.Split(bytes.TrimSpace(stderr), []byte("\n"))
	last := lines[len(lines)-1]
	if readErr != nil || len(last) == 0 {
		return err
	}
	return fmt.Errorf("%w; its last line: %s", err, last)
}

// freePorts finds ports of the loopback address that nobody listens on, all different.
func freePorts(count int) ([]int, error) {
	config := net.ListenConfig{Control: exclusive}
	ports := make([]int, count)
	for i := range ports {
		listener, err := config.Listen(context.Background(), "tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("no free port: %w", err)
		}
		defer listener.Close() // Not before all are chosen: no number comes twice.
		ports[i] = listener.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
