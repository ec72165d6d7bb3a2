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

// The degraded mode: what is left without the native library. The package comment says what it cannot do.

func clamp(d time.Duration) time.Duration { return min(max(d, 10*time.Millisecond), time.Hour) }

// config is what the environment asks for, and the options, each of which stands in for a variable.
type config struct {
	interval time.Duration
	scope    Scope
	named    string // who the supervisor is; "" for nobody
	warnings []string
	invalid  bool // an option is
}

func readConfig(asked driver.Options) config {
	c := config{interval: 2 * time.Second, scope: ScopeGroup}
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
		if strings.Trim(text, "0123456789.") == "" {
			text += "s" // a bare number
		}
		interval, err := time.ParseDuration(text)
		if err == nil && interval > 0 {
			c.interval = clamp(interval)
		}
		return c.interval, c.interval == interval
	})
	read(EnvParentWatchScope, `"group" or "process"`, func(text string) (any, bool) {
		if strings.ToLower(text) == "process" {
			c.scope = ScopeProcess
		}
		return c.scope, strings.ToLower(text) == c.scope.String()
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

// poller is the driver of the degraded mode.
type poller struct {
	lock  sync.Mutex
	state State
	armed config
	ppid  int
}

func (p *poller) Start(asked driver.Options) (string, bool) {
	state, warnings := p.arm(asked)
	say(warnings...)
	return string(state), state == Invalid
}

// arm leaves the warnings to its caller, who has no lock: whoever reads them may be slow.
func (p *poller) arm(asked driver.Options) (State, []string) {
	c := readConfig(asked)
	p.lock.Lock()
	defer p.lock.Unlock()
	others := asked.Interval != nil && c.interval != p.armed.interval ||
		asked.Scope != 0 && c.scope != p.armed.scope || asked.Parent != nil && c.named != p.armed.named
	switch armed := p.state == Armed; {
	case c.invalid || armed && others:
		return Invalid, nil
	case armed:
		return Armed, nil
	case !Enabled():
		p.state = Disabled
		return Disabled, nil
	case runtime.GOOS == "windows": // orphans keep their parent's number there
		p.state = Unsupported
		return Unsupported, nil
	}
	p.state, p.armed, p.ppid = NoParent, c, os.Getppid()
	used := "nobody, since there is no parent to watch"
	if p.ppid > 1 { // In a container the kernel ends everything with PID 1.
		p.state, used = Armed, fmt.Sprintf("the parent process %d alone", p.ppid)
		go func(ppid int) {
			p.WaitForExit(ppid, c.interval)
			say(fmt.Sprintf("supervisor %d is gone, worker %d exits (poll)", ppid, os.Getpid()))
			syscall.Exit(1) // os.Exit would wait for whoever hangs in an exit hook (-cover has one).
		}(p.ppid)
	}
	if pid, _, _ := strings.Cut(c.named, "@"); c.named != "" && pid != strconv.Itoa(p.ppid) {
		c.warnings = append(c.warnings, fmt.Sprintf("%s=%s: expected a living ancestor of this process, but without the "+
			"native library nobody looks; using %s", EnvParentPID, c.named, used))
	}
	return p.state, c.warnings
}

func (p *poller) WaitForExit(pid int, interval time.Duration) bool {
	for pid > 1 && os.Getppid() == pid {
		time.Sleep(clamp(interval))
	}
	return pid > 1
}

func (p *poller) Info() driver.Info {
	p.lock.Lock()
	defer p.lock.Unlock()
	if p.state != Armed {
		c := readConfig(driver.Options{})
		return driver.Info{State: string(p.state), Interval: c.interval, Scope: int32(c.scope)}
	}
	const tier, scope = int32(TierPoll), int32(ScopeProcess)
	return driver.Info{State: string(Armed), Tier: tier, Parent: p.ppid, Interval: p.armed.interval, Scope: scope}
}
