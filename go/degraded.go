package parentwatch

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/mudler/localai-parentwatch/go/internal/driver"
)

// The degraded mode: the watcher without the native library. The package comment lists its limits.

func clamp(d time.Duration) time.Duration { return min(max(d, 10*time.Millisecond), time.Hour) }

// duration reads Go's grammar, or a bare number of seconds.
func duration(text string) (time.Duration, error) {
	if strings.Trim(text, "0123456789.") == "" {
		text += "s"
	}
	return time.ParseDuration(text)
}

// config is what the environment and the options ask for. Each option replaces a variable.
type config struct {
	interval time.Duration
	scope    Scope
	grace    time.Duration
	graceSet bool
	named    string // the named supervisor; "" for none
	warnings []string
	invalid  bool // an option is invalid
}

// names reports whether the named supervisor has the process id.
func (c config) names(pid int) bool {
	named, _, _ := strings.Cut(c.named, "@")
	return named == strconv.Itoa(pid)
}

func readConfig(asked driver.Options) config {
	c := config{interval: 2 * time.Second, scope: ScopeTree}
	read := func(name, expected string, take func(text string) (used any, asItStands bool)) {
		text, isOption := asked.Texts[name]
		if !isOption {
			text = os.Getenv(name)
		}
		if text = strings.TrimSpace(text); text == "" && !isOption {
			return
		}
		if used, asItStands := take(text); !asItStands {
			c.invalid = c.invalid || isOption
			shown := strconv.QuoteToASCII(text[:min(len(text), 64)])
			c.warnings = append(c.warnings, fmt.Sprintf("%s=%s: expected %s; using %v", name, shown[1:len(shown)-1], expected, used))
		}
	}
	read(EnvParentWatchInterval, "a duration such as 500ms, 2s or 1m30s, from 10ms to 1h", func(text string) (any, bool) {
		interval, err := duration(text)
		if err == nil && interval > 0 {
			c.interval = clamp(interval)
		}
		return strings.TrimSuffix(c.interval.String(), "0m0s"), c.interval == interval
	})
	read(EnvParentWatchScope, `"tree", "group" or "process"`, func(text string) (any, bool) {
		for _, scope := range []Scope{ScopeGroup, ScopeProcess} {
			if strings.ToLower(text) == scope.String() {
				c.scope = scope
			}
		}
		return c.scope, strings.ToLower(text) == c.scope.String()
	})
	read(EnvParentWatchGrace, "a duration such as 500ms, 2s or 1m30s, at most 1h", func(text string) (any, bool) {
		grace, err := duration(text)
		if err != nil || strings.HasPrefix(text, "-") {
			return "the default", false
		}
		c.grace, c.graceSet = min(grace, time.Hour), true
		return "1h", c.grace == grace
	})
	read(EnvParentPID, "PID or PID@STARTTIME@PIDNS, in decimal digits", func(text string) (any, bool) {
		fields := strings.Split(text, "@")
		ok := len(fields) == 1 || len(fields) == 3
		for i, field := range fields {
			number, err := strconv.ParseUint(field, 10, 64)
			ok = ok && err == nil && (i > 0 || 0 < number && number < 1<<31)
			fields[i] = strconv.FormatUint(number, 10) // without zeros before it
		}
		if ok {
			c.named = strings.Join(fields, "@")
		}
		return "the parent process", ok
	})
	return c
}

// goWatcher is the driver of the degraded mode.
type goWatcher struct {
	// arming is a lock that is waited for with a timeout. Its holder alone changes the fields below, except the tier.
	arming chan struct{}
	lock   sync.Mutex
	state  State
	tier   Tier
	armed  config
	ppid   int
}

func newGoWatcher() *goWatcher { return &goWatcher{arming: make(chan struct{}, 1), state: NotStarted} }

func (w *goWatcher) Start(asked driver.Options) (string, bool) {
	select {
	case w.arming <- struct{}{}:
	default:
		// A seccomp filter may hold up the other call.
		select {
		case w.arming <- struct{}{}:
		case <-time.After(time.Second):
			return w.Status().State, false
		}
	}
	state, warnings := w.arm(asked)
	<-w.arming
	// Not under the lock: the reader of stderr may be slow.
	say(warnings...)
	return string(state), state == Invalid
}

func (w *goWatcher) arm(asked driver.Options) (State, []string) {
	c := readConfig(asked)
	others := asked.Interval != nil && c.interval != w.armed.interval ||
		asked.Scope != 0 && c.scope != w.armed.scope || asked.Parent != nil && c.named != w.armed.named ||
		asked.Grace != nil && (!w.armed.graceSet || c.grace != w.armed.grace)
	switch armed := w.state == Armed; {
	case c.invalid || armed && others:
		return Invalid, nil
	case armed:
		return Armed, nil
	case !Enabled():
		w.become(Disabled, TierNone, c, 0)
		return Disabled, nil
	case runtime.GOOS == "windows": // getppid does not change there when the parent ends
		w.become(Unsupported, TierNone, c, 0)
		return Unsupported, nil
	}
	state, ppid, watched := NoParent, os.Getppid(), "nothing, since there is no parent"
	if ppid > 1 { // PID 1 needs no watch: when it ends, the kernel ends all others in its PID namespace.
		state, watched = Armed, fmt.Sprintf("only the parent process %d", ppid)
		tier, parent := TierPoll, openHandle(ppid)
		if parent != nil {
			tier = TierEvent
		}
		w.become(Armed, tier, c, ppid)
		go w.watch(parent, ppid, c)
	} else {
		w.become(NoParent, TierNone, c, ppid)
	}
	if c.named != "" && !c.names(ppid) {
		c.warnings = append(c.warnings, fmt.Sprintf("%s=%s: expected a living ancestor of this process, but only the "+
			"native library can check that; watching %s", EnvParentPID, c.named, watched))
	}
	return state, c.warnings
}

func (w *goWatcher) become(state State, tier Tier, c config, ppid int) {
	w.lock.Lock()
	defer w.lock.Unlock()
	w.state, w.tier, w.armed, w.ppid = state, tier, c, ppid
}

// watch ends the process when its parent changes.
func (w *goWatcher) watch(parent *handle, ppid int, c config) {
	tier := TierEvent
	if !parent.wait(ppid) {
		tier = TierPoll
		w.lock.Lock()
		w.tier = tier
		w.lock.Unlock()
		parent.close()
		poll(ppid, c.interval)
	}
	who := "parent"
	if c.names(ppid) {
		who = "supervisor"
	}
	say(fmt.Sprintf("%s %d is gone, worker %d exits (%v)", who, ppid, os.Getpid(), tier))
	syscall.Exit(1) // os.Exit would run exit hooks, which may hang (-cover has one).
}

func (w *goWatcher) WaitForExit(pid int, interval time.Duration) bool {
	if pid <= 1 {
		return false
	}
	if os.Getppid() == pid {
		parent := openHandle(pid)
		parent.wait(pid)
		parent.close()
	}
	poll(pid, interval)
	return true
}

// poll returns when the parent has changed.
func poll(pid int, interval time.Duration) {
	for os.Getppid() == pid {
		time.Sleep(clamp(interval))
	}
}

func (w *goWatcher) Status() driver.Info {
	w.lock.Lock()
	defer w.lock.Unlock()
	if w.state != Armed {
		c := readConfig(driver.Options{})
		return driver.Info{
			State: string(w.state), Interval: c.interval, Scope: int32(c.scope), Grace: c.grace, GraceSet: c.graceSet,
		}
	}
	// The scope and the grace in effect, whatever was asked for.
	return driver.Info{
		State: string(Armed), Tier: int32(w.tier), Parent: w.ppid,
		Interval: w.armed.interval, Scope: int32(ScopeProcess), GraceSet: true,
	}
}

// handle becomes readable when the parent ends. A nil handle never does.
type handle struct {
	file *os.File
	conn syscall.RawConn
	// spare is a duplicate of the descriptor. The poller is woken as long as one of the two is open, even if the program
	// closes a descriptor that is not its own.
	spare *os.File
}

// openHandle opens a handle on the parent, or returns nil.
func openHandle(pid int) *handle {
	file, spare := openPidfds(pid)
	if file == nil {
		return nil
	}
	h := &handle{file: file, spare: spare}
	var err error
	// SetReadDeadline fails if the runtime's poller did not accept the file.
	if h.conn, err = file.SyscallConn(); err != nil || file.SetReadDeadline(time.Time{}) != nil {
		h.close()
		return nil
	}
	return h
}

func (h *handle) close() {
	if h != nil {
		h.file.Close()
		h.spare.Close()
	}
}

// wait sleeps until the kernel wakes it once, and reports whether getppid confirms that the parent is no longer pid. If
// it does not, do not wait again: that could return at once.
func (h *handle) wait(pid int) (confirmed bool) {
	if h == nil {
		return false
	}
	looks := 0
	// Read calls the function once before it waits: the parent may have ended before the handle was opened.
	h.conn.Read(func(uintptr) bool {
		looks++
		confirmed = os.Getppid() != pid
		return confirmed || looks > 1
	})
	runtime.KeepAlive(h) // the garbage collector closes a file that is no longer referenced
	return confirmed
}
