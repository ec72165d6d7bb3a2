//go:build !windows && !((linux || darwin) && !android && (amd64 || arm64 || loong64 || ppc64le || riscv64 || (s390x && cgo)))

package native

import (
	"fmt"
	"runtime"

	"github.com/mudler/localai-parentwatch/go/internal/driver"
)

// The library was asked for, and is not for this system. On Windows there is nothing to fall back on either.
func init() {
	driver.Register(func() (driver.Driver, error) {
		return nil, fmt.Errorf("there is no native library for %s/%s", runtime.GOOS, runtime.GOARCH)
	})
}
