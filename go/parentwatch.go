// Package parentwatch ends a worker process when its supervisor is gone.
//
// LocalAI starts one gRPC server process per model. When LocalAI is killed, nobody stops those workers. A
// worker that calls [Start] first thing in main ends when the process that started it does:
//
//	import (
//		parentwatch "github.com/mudler/localai-parentwatch/go"
//		_ "github.com/mudler/localai-parentwatch/go/native" // the watcher itself
//	)
//
//	func main() {
//		parentwatch.Start() // a safety net: whatever it answers, the server runs
//		// ... serve ...
//	}
//
// It is a backstop and changes nothing about a graceful stop.
//
// # With the native library
//
// The watcher is a shared library, liblocalai_parentwatch, which the blank import above registers. It is a
// package of its own because it makes a static program dynamic: whether it is imported is up to each main.
// The library wakes when the kernel tells of the death, from a thread of its own that the Go scheduler, its
// garbage collector and its signals do not touch.
//
// # Without it
//
// Where the import is missing, or the library cannot be loaded, Start watches from a goroutine: the degraded
// mode. It ends the process with the same line and the same exit status, and Info.Native is false. It is what
// protects a static program.
//
// On Linux 5.10 and later the goroutine sleeps in the runtime's network poller until the kernel tells of the
// parent's end ([TierEvent]). Elsewhere, and where a seccomp filter or a limit refuses that, it looks at getppid
// every interval ([TierPoll]): it is as late as that, and a look wakes some threads. In both, the Go scheduler has to
// get around to it.
//
// What the degraded mode cannot do:
//
//   - A supervisor that died before Start was called is not noticed.
//   - LOCALAI_BACKEND_PARENT_PID is checked, not followed: a wrapper (a shell, sudo) that stays alive between
//     supervisor and worker hides the supervisor's death. One warning line says so.
//   - The process ends alone, whatever LOCALAI_BACKEND_PARENT_WATCH_SCOPE says; Info has [ScopeProcess].
//   - Nobody is given any time, whatever LOCALAI_BACKEND_PARENT_WATCH_GRACE says; Info has a Grace of 0.
//   - It holds two descriptors on the parent. A program that closes one of them, or puts another file over it, is
//     still woken. One that closes both is not: it outlives its supervisor. (Who closes every descriptor also closes
//     the Go runtime's own, and the runtime ends the program.)
//   - With -cover the process ends without writing its data, as it does with the native library.
//
// As with the native library, a worker whose parent is PID 1 has nothing to watch ([NoParent]), and a line on
// stderr never keeps the process from ending.
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

// The contract with the environment of the worker. Whoever starts it sets these.
const (
	// EnvParentWatch switches the watcher off: false, 0, no or off. On Windows it is off unless the value is
	// true, 1, yes or on.
	EnvParentWatch = "LOCALAI_BACKEND_PARENT_WATCH"
	// EnvParentWatchInterval is how often the poll tier looks: a duration as in [time.ParseDuration], or a bare
	// number of seconds; from 10ms to 1h, 2s unless set.
	EnvParentWatchInterval = "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL"
	// EnvParentWatchScope is tree (the default), group or process; see [Scope].
	EnvParentWatchScope = "LOCALAI_BACKEND_PARENT_WATCH_SCOPE"
	// EnvParentWatchGrace is how long the worker, and after it its helpers, may take to end by themselves once the
	// supervisor is gone: a duration as that of the interval, at most 1h. 0: nobody has any time. See [WithGrace].
	EnvParentWatchGrace = "LOCALAI_BACKEND_PARENT_WATCH_GRACE"
	// EnvParentPID is who the supervisor is: PID or PID@STARTTIME@PIDNS; see [ChildEnv].
	EnvParentPID = "LOCALAI_BACKEND_PARENT_PID"
)

// State is what came of the last attempt to start the watcher.
type State string

// The states. Later versions may have more.
const (
	// Armed: the supervisor is being watched.
	Armed State = "armed"
	// Disabled: switched off by LOCALAI_BACKEND_PARENT_WATCH.
	Disabled State = "disabled"
	// NoParent: there is nothing to watch, since PID 1 started this process.
	NoParent State = "no_parent"
	// Unsupported: not on this operating system.
	Unsupported State = "unsupported"
	// NotStarted: nobody has called Start.
	NotStarted State = "not_started"
	// Exhausted: no thread could be had, and a line on stderr said so. Start may be called again later.
	Exhausted State = "exhausted"
	// Invalid: what [Start] refuses as [ErrInvalid]. Info.State never is: a refused call leaves it as it was.
	Invalid State = "invalid"
	// Internal: a bug of the library, kept from the program.
	Internal State = "internal"
)

// Tier is how the supervisor is being watched.
type Tier int32

const (
	// TierNone: not at all.
	TierNone Tier = iota
	// TierEvent: the kernel wakes the watcher, which sleeps until then.
	TierEvent
	// TierPoll: the watcher looks every interval.
	TierPoll
)

// String is none, event or poll.
func (t Tier) String() string { return word(t, "none", "event", "poll") }

// Scope is what ends when the supervisor is gone.
type Scope int32

const (
	// ScopeGroup: the worker, and the helpers in its process group when it leads that group.
	ScopeGroup Scope = 1 + iota
	// ScopeProcess: the worker alone.
	ScopeProcess
	// ScopeTree: as ScopeGroup, and every process that is still a descendant of the worker.
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
	// State is what came of the last attempt to start the watcher.
	State State
	// Tier may go from TierEvent to TierPoll later, never back.
	Tier Tier
	// Native is whether the native library answered; false in the degraded mode, and when switched off.
	Native bool
	// LoadError is why the native library is not used though go/native is imported. It is nil when switched off:
	// nobody has looked for the library then.
	LoadError error
	// Parent is the process id of the watched direct parent; 0 for none.
	Parent int
	// Supervisor is the process id of the watched supervisor when it is further up; 0 for none.
	Supervisor int
	// Interval is how often the poll tier looks: the armed one, else the environment's.
	Interval time.Duration
	// Scope is what ends with the supervisor: once armed what will be acted on, else the environment's.
	Scope Scope
	// Grace is how long the worker and its helpers may take: the armed one, else the environment's. It is 0 unless
	// GraceSet.
	Grace time.Duration
	// GraceSet tells that there is a grace: an option or the environment has set it. Without one a worker has no time,
	// and its helpers have a second.
	GraceSet bool
}

// ErrInvalid is returned by [Start] when an option is out of range, or when the watcher is armed with other
// options already. Nothing was changed.
var ErrInvalid = errors.New("parentwatch: an option is out of range, or the watcher is armed with other ones")

// Option is something that a program asks of [Start] in code. It beats the environment, except that a watcher
// switched off stays off.
type Option struct{ set func(*driver.Options) }

// WithScope says what ends with the supervisor. Default, and for 0: what the environment says, else ScopeTree. The
// degraded mode ends the process alone.
func WithScope(scope Scope) Option {
	return Option{func(o *driver.Options) {
		o.Scope, o.Texts[EnvParentWatchScope] = int32(scope), scope.String()
		if scope == 0 {
			delete(o.Texts, EnvParentWatchScope)
		}
	}}
}

// WithInterval says how often the poll tier looks: from 10ms to 1h. Default: 2s.
func WithInterval(interval time.Duration) Option {
	return Option{func(o *driver.Options) { o.Interval, o.Texts[EnvParentWatchInterval] = &interval, interval.String() }}
}

// WithGrace says how long the worker may take to end by itself once the supervisor is gone, and after it its helpers:
// up to 1h. The worker's time begins with a SIGTERM to itself, if the program handles that signal. 0: nobody has any
// time. The degraded mode gives none.
func WithGrace(grace time.Duration) Option {
	return Option{func(o *driver.Options) { o.Grace, o.Texts[EnvParentWatchGrace] = &grace, grace.String() }}
}

// WithParent says who the supervisor is: PID or PID@STARTTIME@PIDNS, as LOCALAI_BACKEND_PARENT_PID does.
func WithParent(token string) Option {
	return Option{func(o *driver.Options) { o.Parent, o.Texts[EnvParentPID] = &token, token }}
}

// Start starts the watcher of this process, as the environment and the options ask for it. Call it first
// thing in main; the status and the error may be ignored.
//
// It may be called from any goroutine, any number of times; once armed the watcher stays armed. When the
// supervisor is proven to have died already, Start does not return: the process exits with status 1. A bad
// value in the environment is one warning line on stderr. While the watcher is switched off there, the native
// library is not even opened. With that library, no other goroutine may call [os.Setenv] meanwhile.
//
// The error is about what the program asked for ([ErrInvalid]), or a bug of the library. The degraded mode, which
// the package comment describes, is none: Info.LoadError tells of that, and one line on stderr. The status is the
// one after the call, also beside an error.
//
// When the supervisor is gone the process ends at once, unless it has a grace ([WithGrace]): no deferred function, no
// signal handler and no hook runs. Native code ends it, from a thread on which no Go code can run.
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

// Status tells how this process is being watched. It prints nothing. Before the watcher is armed, interval,
// scope and grace are the environment's: with the native library, no other goroutine may call [os.Setenv] meanwhile.
func Status() Info {
	watcher, missing := chosen()
	info := watcher.Status()
	return Info{
		State: State(info.State), Tier: Tier(info.Tier), Native: watcher != degraded, LoadError: missing,
		Parent: info.Parent, Supervisor: info.Supervisor,
		Interval: info.Interval, Scope: Scope(info.Scope), Grace: info.Grace, GraceSet: info.GraceSet,
	}
}

// Enabled tells whether the environment leaves the watcher on. It prints nothing and needs no native library.
func Enabled() bool {
	// ToLower maps nothing beyond ASCII to a letter of these words, nor of those of the scope.
	switch strings.ToLower(strings.TrimSpace(os.Getenv(EnvParentWatch))) {
	case "false", "0", "no", "off":
		return false
	case "true", "1", "yes", "on":
		return true
	}
	return runtime.GOOS != "windows"
}

// Interval is the interval of the poll tier that the environment asks for: from 10ms to 1h, 2s unless set. It
// prints nothing and needs no native library.
func Interval() time.Duration { return readConfig(driver.Options{}).interval }

// WatchParentDeath blocks until the process origPPID is no longer this process's parent, then calls onDeath. It
// needs no watcher, and waits whatever the environment says; run it in a goroutine of its own.
//
// The kernel wakes it where it can; else it looks every interval, which is brought into 10ms to 1h. When origPPID is 1
// or less it returns at once without calling onDeath: nobody has died. When origPPID is not the parent to begin with,
// it calls onDeath at once. With the native library, each call that waits holds an operating system thread. When that
// library is wanted and cannot be had, one line on stderr says so, unless one has already.
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

// chosen is the native library, or the degraded mode and, when the library was asked for, why it is missing. While
// the watcher is switched off, nothing of the library is opened: that is the way out for whom it harms.
func chosen() (driver.Driver, error) {
	native, missing := driver.Open(Enabled())
	if native == nil {
		return degraded, missing
	}
	return native, nil
}

var missingReported sync.Once

// reportMissing says, once, that the program has asked for the native library in vain.
func reportMissing(missing error) {
	missingReported.Do(func() { say(fmt.Sprintf("watching the parent alone, since %v", missing)) })
}
