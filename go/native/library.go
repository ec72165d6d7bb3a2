//go:build (linux || darwin) && !android && (amd64 || arm64 || loong64 || ppc64le || riscv64 || (s390x && cgo))

package native

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/mudler/localai-parentwatch/go/internal/driver"
)

// abiVersion is LOCALAI_PARENTWATCH_ABI_VERSION of the header that this package mirrors.
const abiVersion = 1

// graceIsSet is LOCALAI_PARENTWATCH_GRACE_IS_SET, a flag of both structs: the grace counts even if it is 0.
const graceIsSet = 1

// options is localai_parentwatch_options_t.
type options struct {
	size     uintptr
	interval uint64
	grace    uint64
	parent   *byte
	_, _     uintptr // on_death, user_data
	scope    int32
	flags    uint32
}

// info is localai_parentwatch_info_t.
type info struct {
	size     uintptr
	state    int32
	tier     int32
	watched  [2]int32
	scope    int32
	flags    uint32
	interval uint64
	grace    uint64
}

// library is the driver that calls the shared library.
type library struct {
	abiVersion  func() uint32
	start       func(*options) int32
	status      func(*info) int32
	statusText  func(int32) string
	waitForExit func(pid int32, intervalNS uint64) int32
}

func init() {
	driver.Register(open)
}

// open loads the library from the first place that has it.
func open() (driver.Driver, error) {
	// In a static program dlopen would load a second C library and crash in it. Such a program exports no symbols.
	if _, err := purego.Dlsym(purego.RTLD_DEFAULT, "getenv"); err != nil {
		return nil, &LoadError{[]Attempt{{"this program", errors.New("it is static")}}}
	}
	var failed LoadError
	users := trusted()
	for _, place := range places() {
		found, err := load(place, users)
		if err == nil {
			return found, nil
		}
		failed.Attempts = append(failed.Attempts, Attempt{place.String(), err})
	}
	return nil, &failed
}

func load(place place, users trust) (_ *library, err error) {
	if place.base != "" {
		if err := users.check(place.base, place.name); err != nil {
			return nil, err
		}
	}
	// dlerror reports the errors of the calling thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := purego.Dlopen(place.String(), purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	// Close a library that is rejected: the loader would return it again for the same SONAME. (This has no effect on our
	// own library, which is linked with NODELETE.)
	defer func() {
		if err != nil {
			purego.Dlclose(handle)
		}
	}()
	found := new(library)
	for name, function := range map[string]any{
		"abi_version": &found.abiVersion,
		"start":       &found.start, "status": &found.status, "status_text": &found.statusText,
		"wait_for_exit": &found.waitForExit,
	} {
		symbol, err := purego.Dlsym(handle, "localai_parentwatch_"+name)
		if err != nil {
			return nil, err
		}
		purego.RegisterFunc(function, symbol)
	}
	if version := found.abiVersion(); version != abiVersion {
		return nil, fmt.Errorf("ABI version %d, expected %d", version, abiVersion)
	}
	return found, nil
}

func (l *library) Start(asked driver.Options) (string, bool) {
	given := options{scope: asked.Scope}
	given.size = unsafe.Sizeof(given)
	if asked.Interval != nil {
		// 0 means "not given" in C. Pass 1 ns instead, which is as invalid.
		given.interval = uint64(max(*asked.Interval, 1))
	}
	if asked.Grace != nil {
		// A negative grace becomes a number far beyond an hour, which is invalid.
		given.grace, given.flags = uint64(*asked.Grace), graceIsSet
	}
	if asked.Parent != nil {
		// This fails if the text contains a NUL, which would truncate it.
		parent, err := syscall.BytePtrFromString(*asked.Parent)
		if err != nil {
			return "invalid", true
		}
		given.parent = parent
	}
	// Go does not move heap memory. KeepAlive keeps both objects until after the call.
	status := l.start(&given)
	runtime.KeepAlive(&given)
	return l.statusText(status), status < 0
}

func (l *library) Status() driver.Info {
	var now info
	now.size = unsafe.Sizeof(now)
	l.status(&now)
	return driver.Info{
		State: l.statusText(now.state), Tier: now.tier, Scope: now.scope,
		Parent: int(now.watched[0]), Supervisor: int(now.watched[1]),
		Interval: time.Duration(now.interval), Grace: time.Duration(now.grace), GraceSet: now.flags&graceIsSet != 0,
	}
}

func (l *library) WaitForExit(pid int, interval time.Duration) bool {
	// The core clamps both values; here they only have to fit the C types.
	pid = min(max(pid, 0), math.MaxInt32)
	return l.waitForExit(int32(pid), uint64(max(interval, 0))) == 0
}
