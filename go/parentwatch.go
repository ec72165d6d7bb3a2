// Package parentwatch ends a worker process when its supervisor dies.
//
// LocalAI starts one gRPC server process per model. When LocalAI is killed, nobody stops those workers. A worker that
// calls [Start] first thing in main ends when the process that started it ends:
//
//	import (
//		parentwatch "github.com/mudler/localai-parentwatch/go"
//		_ "github.com/mudler/localai-parentwatch/go/native" // the watcher itself
//	)
//
//	func main() {
//		parentwatch.Start() // a safety net: the server runs, whatever it returns
//		// ... serve ...
//	}
//
// It is a backstop. A graceful stop of the worker is unchanged.
//
// # With the native library
//
// The watcher is in a shared library, liblocalai_parentwatch. The blank import above registers it. The import is a
// separate package because it makes a static program dynamic: each main decides. The library has its own thread, which
// the kernel wakes when the supervisor dies. That thread does not depend on the Go scheduler, the garbage collector or
// Go's signal handling.
//
// # Without it
//
// Without the import, or if the library cannot be loaded, Start watches from a goroutine: the degraded mode. It prints
// the same line and ends the process with the same exit status. Info.Native is false. This mode also protects static
// programs.
//
// On Linux 5.10 and later the goroutine sleeps in the runtime's network poller until the parent ends ([TierEvent]). On
// other systems, and where a seccomp filter or a limit refuses the descriptor, it polls getppid every interval
// ([TierPoll]): it is up to one interval late, and each poll wakes some threads. In both tiers it depends on the Go
// scheduler.
//
// Limits of the degraded mode:
//
//   - It does not notice a supervisor that died before Start was called.
//   - It checks LOCALAI_BACKEND_PARENT_PID but watches the parent alone. A wrapper (a shell, sudo) that stays alive
//     between supervisor and worker hides the supervisor's death. One warning line says so.
//   - Only the process itself ends, whatever LOCALAI_BACKEND_PARENT_WATCH_SCOPE is. Info has [ScopeProcess].
//   - There is no grace, whatever LOCALAI_BACKEND_PARENT_WATCH_GRACE is. Info has a Grace of 0.
//   - It holds two descriptors for the parent. If the program closes or replaces one of them, the other still wakes it.
//     If the program closes both, it outlives its supervisor. (A program that closes every descriptor also closes those
//     of the Go runtime, which then ends the program.)
//   - With -cover the process ends without writing its data. So it does with the native library.
//
// In both modes, a worker whose parent is PID 1 has nothing to watch ([NoParent]), and a blocked stderr never delays
// the end of the process.
package parentwatch

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/mudler/localai-parentwatch/go/internal/driver"
)

// The environment variables of the worker. The process that starts the worker sets them.
const (
	// EnvParentWatch switches the watcher off: false, 0, no or off. On Windows it is off unless the value is
	// true, 1, yes or on.
	EnvParentWatch = "LOCALAI_BACKEND_PARENT_WATCH"
	// EnvParentWatchInterval is the polling interval: a duration as in [time.ParseDuration], or a bare number of
	// seconds; from 10ms to 1h, 2s unless set.
	EnvParentWatchInterval = "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL"
	// EnvParentWatchScope is tree (the default), group or process; see [Scope].
	EnvParentWatchScope = "LOCALAI_BACKEND_PARENT_WATCH_SCOPE"
	// EnvParentWatchGrace is the time that the worker, and then its helpers, have to exit once the supervisor has died.
	// It is a duration like the interval, from 0 to 1h; see [WithGrace].
	EnvParentWatchGrace = "LOCALAI_BACKEND_PARENT_WATCH_GRACE"
	// EnvParentPID names the supervisor: PID or PID@STARTTIME@PIDNS; see [ChildEnv].
	EnvParentPID = "LOCALAI_BACKEND_PARENT_PID"
)

// State is the outcome of the last attempt to start the watcher.
type State string

// The states. Later versions may have more.
const (
	// Armed: the supervisor is being watched.
	Armed State = "armed"
	// Disabled: switched off by LOCALAI_BACKEND_PARENT_WATCH.
	Disabled State = "disabled"
	// NoParent: there is nothing to watch, because the parent is PID 1.
	NoParent State = "no_parent"
	// Unsupported: this operating system is not supported.
	Unsupported State = "unsupported"
	// NotStarted: Start was not called.
	NotStarted State = "not_started"
	// Exhausted: the thread could not be created, and a line on stderr said so. Start may be called again later.
	Exhausted State = "exhausted"
	// Invalid: [Start] refused the call with [ErrInvalid]. Info.State never has this value: a refused call does not
	// change it.
	Invalid State = "invalid"
	// Internal: a bug in the library. It was caught; the program runs on.
	Internal State = "internal"
)

// Tier is how the supervisor is being watched.
type Tier int32

const (
	// TierNone: not at all.
	TierNone Tier = iota
	// TierEvent: the watcher sleeps until the kernel wakes it.
	TierEvent
	// TierPoll: the watcher polls every interval.
	TierPoll
)

// String is none, event or poll.
func (t Tier) String() string { return word(t, "none", "event", "poll") }

// Scope is what ends when the supervisor dies.
type Scope int32

const (
	// ScopeGroup: the worker, and the helpers in its process group if it leads that group.
	ScopeGroup Scope = 1 + iota
	// ScopeProcess: the worker alone.
	ScopeProcess
	// ScopeTree: as ScopeGroup, and all descendants of the worker.
	ScopeTree
)

// String is group, process or tree.
func (s Scope) String() string { return word(s, "default", "group", "process", "tree") }

func word[N ~int32](n N, words ...string) string {
	if n < 0 || int(n) >= len(words) {
		return fmt.Sprintf("unknown(%d)", n)
	}
	return words[n]
}

// Info tells how this process is being watched.
type Info struct {
	// State is the outcome of the last attempt to start the watcher.
	State State
	// Tier may change from TierEvent to TierPoll later, never back.
	Tier Tier
	// Native is true if the native library is used; false in the degraded mode and when the watcher is switched off.
	Native bool
	// LoadError is why the native library is not used although go/native is imported. It is nil when the watcher is
	// switched off: then nothing tries to load the library.
	LoadError error
	// Parent is the process id of the watched parent; 0 for none.
	Parent int
	// Supervisor is the process id of the watched supervisor, if that is not the parent; 0 for none.
	Supervisor int
	// Interval is the polling interval: the armed one or, before that, the one in the environment.
	Interval time.Duration
	// Scope is what ends with the supervisor. Once armed it is the scope in effect; before that, the one in the
	// environment.
	Scope Scope
	// Grace is the time that the worker and its helpers have to exit: the armed one or, before that, the one in the
	// environment. It is 0 unless GraceSet.
	Grace time.Duration
	// GraceSet is true if an option or the environment sets a grace. If it is false, a worker has no time and its
	// helpers have 1s.
	GraceSet bool
}

// ErrInvalid is returned by [Start] if an option is out of range, or if the watcher is already armed with other
// options. Nothing was changed.
var ErrInvalid = errors.New("parentwatch: an option is out of range, or the watcher is armed with other ones")

// Option is an option for [Start]. It overrides the environment, with one exception: EnvParentWatch can always switch
// the watcher off.
type Option struct{ set func(*driver.Options) }

// WithScope sets what ends with the supervisor. Without it, or with 0, the environment decides, then ScopeTree. In the
// degraded mode only the process itself ends.
func WithScope(scope Scope) Option {
	return Option{func(o *driver.Options) {
		o.Scope, o.Texts[EnvParentWatchScope] = int32(scope), scope.String()
		if scope == 0 {
			delete(o.Texts, EnvParentWatchScope)
		}
	}}
}

// WithInterval sets the polling interval: from 10ms to 1h. Default: 2s.
func WithInterval(interval time.Duration) Option {
	return Option{func(o *driver.Options) { o.Interval, o.Texts[EnvParentWatchInterval] = &interval, interval.String() }}
}

// WithGrace sets the time to exit once the supervisor has died, at most 1h. The worker first sends itself SIGTERM, if
// the program handles that signal, and has this time to exit. Then its helpers have the same time between SIGTERM and
// SIGKILL. With 0 nobody has any time. The degraded mode ignores the grace.
func WithGrace(grace time.Duration) Option {
	return Option{func(o *driver.Options) { o.Grace, o.Texts[EnvParentWatchGrace] = &grace, grace.String() }}
}

// WithParent names the supervisor: PID or PID@STARTTIME@PIDNS, as in LOCALAI_BACKEND_PARENT_PID.
func WithParent(token string) Option {
	return Option{func(o *driver.Options) { o.Parent, o.Texts[EnvParentPID] = &token, token }}
}

// Start starts the watcher of this process, with the settings in the environment and the options. Call it first thing
// in main. The program may ignore both results.
//
// Any goroutine may call it, any number of times. Once armed, the watcher stays armed. If the supervisor is proven to
// have died already, Start does not return: the process exits with status 1. Each bad value in the environment costs
// one warning line on stderr. If the environment switches the watcher off, the native library is not even opened. With
// the native library, no other goroutine may call [os.Setenv] meanwhile.
//
// The error is [ErrInvalid], or a bug in the library. The degraded mode, described in the package comment, is no error:
// Info.LoadError and one line on stderr give the reason. The Info is the one after the call, also beside an error.
//
// When the supervisor dies, the process ends at once, unless it has a grace ([WithGrace]). No deferred function, signal
// handler or hook runs: native code ends the process from a thread that cannot run Go code.
func Start(opts ...Option) (Info, error) {
	asked := driver.Options{Texts: map[string]string{}}
	for _, opt := range opts {
		if opt.set != nil {
			opt.set(&asked)
		}
	}
	watcher, missing := chosen()
	word, isError := watcher.Start(asked)
	state := State(word)
	if missing != nil && state == Armed {
		reportMissing(missing)
	}
	var err error
	switch {
	case !isError || state == Exhausted:
	case state == Invalid:
		err = ErrInvalid
	default:
		err = fmt.Errorf("parentwatch: the native library answers %q", word)
	}
	return Status(), err
}

// Status tells how this process is being watched. It prints nothing. Before the watcher is armed, it reads interval,
// scope and grace from the environment: with the native library, no other goroutine may call [os.Setenv] meanwhile.
func Status() Info {
	watcher, missing := chosen()
	info := watcher.Status()
	return Info{
		State: State(info.State), Tier: Tier(info.Tier), Native: watcher != degraded, LoadError: missing,
		Parent: info.Parent, Supervisor: info.Supervisor,
		Interval: info.Interval, Scope: Scope(info.Scope), Grace: info.Grace, GraceSet: info.GraceSet,
	}
}

// Enabled reports whether the environment leaves the watcher on. It prints nothing and needs no native library.
func Enabled() bool {
	// ToLower is as good as an ASCII lower case here: it maps no other character to a letter of these words.
	switch strings.ToLower(strings.TrimSpace(os.Getenv(EnvParentWatch))) {
	case "false", "0", "no", "off":
		return false
	case "true", "1", "yes", "on":
		return true
	}
	return runtime.GOOS != "windows"
}

// Interval returns the polling interval in the environment: from 10ms to 1h, 2s unless set. It prints nothing and needs
// no native library.
func Interval() time.Duration { return readConfig(driver.Options{}).interval }

// WatchParentDeath blocks until origPPID is no longer this process's parent, then calls onDeath. It needs no watcher
// and ignores the environment. Run it in its own goroutine.
//
// It sleeps until the kernel wakes it. Where the kernel cannot, it polls every interval, clamped to 10ms to 1h. If
// origPPID is 1 or less, nobody has died: it returns at once without calling onDeath. If origPPID is not the parent to
// begin with, it calls onDeath at once. With the native library, each waiting call holds an operating system thread. If
// that library is imported but cannot be loaded, one line on stderr says so, once per process.
func WatchParentDeath(origPPID int, interval time.Duration, onDeath func()) {
	watcher, missing := chosen()
	if missing != nil && origPPID > 1 {
		reportMissing(missing)
	}
	if watcher.WaitForExit(origPPID, interval) {
		onDeath()
	}
}

var degraded driver.Driver = newGoWatcher()

// chosen returns the native library, or the degraded mode. The error is why an imported library cannot be used. While
// the watcher is switched off the library is not opened, so that the switch also helps where the library itself harms.
func chosen() (driver.Driver, error) {
	native, missing := driver.Open(Enabled())
	if native == nil {
		return degraded, missing
	}
	return native, nil
}

var missingReported sync.Once

// reportMissing says, once, that the program imports the native library and cannot load it.
func reportMissing(missing error) {
	missingReported.Do(func() { say(fmt.Sprintf("watching the parent alone, since %v", missing)) })
}
