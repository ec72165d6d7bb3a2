// Package driver is the interface between the package parentwatch and its native implementation. Both are released
// together.
package driver

import (
	"sync"
	"sync/atomic"
	"time"
)

// Options are the options of parentwatch.Start; nil and 0 mean "not given".
type Options struct {
	Interval *time.Duration
	Scope    int32
	Grace    *time.Duration
	Parent   *string
	// Texts are the same options as texts, each under the name of the variable that it replaces.
	Texts map[string]string
}

// Info tells how this process is being watched.
type Info struct {
	State              string
	Tier, Scope        int32
	Parent, Supervisor int
	Interval           time.Duration
	// Grace counts only if GraceSet.
	Grace    time.Duration
	GraceSet bool
}

// Driver is a watcher. Its methods may be called from any goroutine.
type Driver interface {
	// Start returns the word for a status, and whether that is an error.
	Start(Options) (word string, isError bool)
	Status() Info
	// WaitForExit blocks until pid is no longer the parent, then returns true. It returns false if it cannot wait.
	WaitForExit(pid int, interval time.Duration) bool
}

var (
	registered func() (Driver, error)
	opened     atomic.Bool
)

// Register sets the implementation. The init function of its package calls it. The first Open calls open.
func Register(open func() (Driver, error)) {
	registered = sync.OnceValues(open)
}

// Open returns the registered implementation, or the error that opening it gave. It returns nil and no error if none is
// registered, or if it is not wanted and was not opened before.
func Open(wanted bool) (Driver, error) {
	if registered == nil || !wanted && !opened.Load() {
		return nil, nil
	}
	opened.Store(true)
	return registered()
}
