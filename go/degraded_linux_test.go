package parentwatch

import (
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/mudler/localai-parentwatch/go/internal/driver"
	"github.com/mudler/localai-parentwatch/go/internal/processtree"
)

// A wake-up that getppid does not confirm does not end the process. From then on the parent is polled.
func TestUnconfirmedWake(t *testing.T) {
	child := exec.Command("sleep", "3600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	other := openHandle(child.Process.Pid)
	if other == nil {
		t.Fatal("no handle")
	}
	ppid := os.Getppid()
	watcher := newGoWatcher()
	watcher.become(Armed, TierEvent, config{}, ppid)
	go watcher.watch(other, ppid, config{interval: time.Hour})
	// The poller forgets a wake-up that comes before the wait. A parent that has died by then is seen without one.
	stacks := make([]byte, 1<<20)
	processtree.Eventually(t, "the watcher waits", func() bool {
		for _, stack := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "[IO wait]") && strings.Contains(stack, "(*handle).wait") {
				return true
			}
		}
		return false
	})
	child.Process.Kill()
	processtree.Eventually(t, "the parent is polled", func() bool { return Tier(watcher.Status().Tier) == TierPoll })
}

// While one call of Start hangs, another returns after 1 s: the watcher is not started.
func TestStartWhileAnotherHangs(t *testing.T) {
	watcher := newGoWatcher()
	watcher.arming <- struct{}{}
	if status, err := watcher.Start(driver.Options{}); status != string(NotStarted) || err {
		t.Errorf("%s, %v", status, err)
	}
}
