//go:build !windows && !((linux || darwin) && !android && (amd64 || arm64 || loong64 || ppc64le || riscv64 || (s390x && cgo)))

package native

import (
	"fmt"
	"runtime"

	"github.com/mudler/localai-parentwatch/go/internal/driver"
)

// There is no library for this system. On Windows there is no degraded mode either, so nothing is registered.
func init() {
	driver.Register(func() (driver.Driver, error) {
		return nil, fmt.Errorf("there is no native library for %s/%s", runtime.GOOS, runtime.GOARCH)
	})
}
