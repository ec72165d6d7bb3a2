// Package driver is what the package parentwatch and its native implementation agree on. Its users are
// released together.
package driver

import (
	"sync"
	"sync/atomic"
	"time"
)

// Options are what a program asks for in code; nil and 0 are "not given".
type Options struct {
	Interval *time.Duration
	Scope    int32
	Grace    *time.Duration
	Parent   *string
	// Texts are the same again, each under the name of the variable that it stands in for.
	Texts map[string]string
}

// Info is the core's answer about the watcher of this process.
type Info struct {
	State              string
	Tier, Scope        int32
	Parent, Supervisor int
	Interval           time.Duration
	// Grace counts only if it was set.
	Grace    time.Duration
	GraceSet bool
}

// Driver is a watcher. Its methods may be called from any goroutine.
type Driver interface {
	// Start answers with the word of a status, and whether that is an error.
	Start(Options) (word string, isError bool)
	Status() Info
	// WaitForExit blocks until pid is no longer the parent; it tells whether that came to pass.
	WaitForExit(pid int, interval time.Duration) bool
}

var (
	registered func() (Driver, error)
	opened     atomic.Bool
)

// Register names the implementation. It is called by the init function of the package that has one. The
// first Open calls open.
func Register(open func() (Driver, error)) {
	registered = sync.OnceValues(open)
}

// Open returns the registered implementation, or why it cannot be had. Nil and no error: none is registered, or it
// is not wanted and nobody has opened it yet.
func Open(wanted bool) (Driver, error) {
	if registered == nil || !wanted && !opened.Load() {
		return nil, nil
	}
	opened.Store(true)
	return registered()
}
