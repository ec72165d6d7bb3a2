// Supervisor is LocalAI reduced to what matters here: a Go program that starts gRPC workers
// through the process manager that LocalAI uses, names itself to them, and waits until they
// answer. Kill it with SIGKILL, and see what its workers do.
//
//	supervisor --workers 2 --worker cpp=./worker-cpp --worker rust=./worker-rust
//	supervisor health 127.0.0.1:50051 127.0.0.1:50052
//
// The first form prints one line of JSON for each worker once all of them answer, then runs until
// SIGTERM or SIGINT and stops its workers gracefully. The second asks servers for their health.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments: the result is the exit status, 2 for a command
// line that makes no sense.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	command := supervise
	if len(args) > 0 && args[0] == "health" {
		command, args = health, args[1:]
	}
	err := command(ctx, args, stdout, stderr)
	var usage usageError
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "supervisor: %v (see --help)\n", err)
		return 2
	default:
		fmt.Fprintf(stderr, "supervisor: %v\n", err)
		return 1
	}
}

// usageError is a mistake in the command line.
type usageError struct{ error }

func usageErrorf(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// supervise starts the workers, reports them and stays with them.
func supervise(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var programs programList
	flags := newFlagSet("supervisor [flags]", "Starts gRPC workers as LocalAI does and prints one JSON line for each.")
	count := flags.Int("workers", 1, "how many workers of each kind to start")
	flags.Func("worker", "a kind of worker and its program, as `KIND=PATH`; may be repeated", programs.add)
	flags.Func("guarded", "the same for a program that is not linked with the library, as `KIND=PATH`: it is run by localai-parentwatch exec, if that is beside this program or in PATH", programs.addGuarded)
	stateDir := flags.String("state-dir", "", "where the workers' pid, stdout and stderr files go (default: a temporary directory)")
	timeout := flags.Duration("ready-timeout", 10*time.Second, "how long a worker may take to answer Health")
	untilEOF := flags.Bool("until-stdin-eof", false, "stop at the end of standard input too: whoever holds the other end of that pipe need not outlive us")
	if err := parse(flags, args, stdout); err != nil {
		return err
	}
	switch {
	case flags.NArg() > 0:
		return usageErrorf("unexpected argument %q", flags.Arg(0))
	case len(programs) == 0:
		return usageErrorf("no worker given: --worker KIND=PATH or --guarded KIND=PATH")
	case *count < 1:
		return usageErrorf("--workers is %d, expected at least 1", *count)
	case *timeout <= 0:
		return usageErrorf("--ready-timeout is %v, expected more than nothing", *timeout)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if *untilEOF {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}

	pool, err := startPool(ctx, poolConfig{
		programs: programs,
		count:    *count,
		stateDir: *stateDir,
		timeout:  *timeout,
	})
	if err != nil {
		return err
	}
	defer pool.stop()
	if err := report(stdout, pool.workers); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// report prints one JSON line per worker, all of them in one write.
func report(stdout io.Writer, workers []*worker) error {
	out := bufio.NewWriter(stdout)
	lines := json.NewEncoder(out)
	for _, w := range workers {
		if err := lines.Encode(w); err != nil {
			return err
		}
	}
	return out.Flush()
}

// programList collects the values of --worker and --guarded.
type programList []program

// program is one kind of worker.
type program struct {
	kind, path string
	guarded    bool // run by localai-parentwatch exec
}

func (l *programList) add(value string) error { return l.append(value, false) }

func (l *programList) addGuarded(value string) error { return l.append(value, true) }

func (l *programList) append(value string, guarded bool) error {
	kind, path, ok := strings.Cut(value, "=")
	if !ok || kind == "" || path == "" {
		return errors.New("expected KIND=PATH")
	}
	if strings.ContainsAny(kind, "/\x00") || kind == "." || kind == ".." {
		return errors.New("a kind is a plain word")
	}
	for _, p := range *l {
		if p.kind == kind {
			return fmt.Errorf("the kind %q is given twice", kind)
		}
	}
	*l = append(*l, program{kind, path, guarded})
	return nil
}

func newFlagSet(usage, text string) *flag.FlagSet {
	flags := flag.NewFlagSet(usage, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // An error is reported by run, in one line.
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "Usage: %s\n\n%s\n\n", usage, text)
		flags.PrintDefaults()
	}
	return flags
}

// parse reads the command line; help goes to stdout, mistakes become a usageError.
func parse(flags *flag.FlagSet, args []string, stdout io.Writer) error {
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(stdout)
		flags.Usage()
		return err
	}
	if err != nil {
		return usageError{err}
	}
	return nil
}
