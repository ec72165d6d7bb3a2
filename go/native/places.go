//go:build (linux || darwin) && !android && (amd64 || arm64 || loong64 || ppc64le || riscv64 || (s390x && cgo))

package native

import (
	"bufio"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"

	"github.com/ebitengine/purego"
)

// libraryName returns the file name of the library, with its ABI number.
func libraryName() string {
	if runtime.GOOS == "darwin" {
		return "liblocalai_parentwatch.0.dylib"
	}
	return "liblocalai_parentwatch.so.0"
}

// place is a name below a folder or, if base is empty, a name for the dynamic loader.
type place struct{ base, name string }

func (p place) String() string {
	if p.base == "" || strings.HasSuffix(p.base, "/") {
		return p.base + p.name
	}
	return p.base + "/" + p.name
}

// places returns where to look for the library, in order.
func places() []place {
	var places []place
	named := os.Getenv(EnvLibrary)
	switch {
	case hasMoreRights():
	case strings.Contains(named, "/"):
		base, name := filepath.Split(named)
		return []place{{base, name}}
	case named != "":
		return []place{{"", named}}
	default:
		if folder := programFolder(); folder != "" {
			places = []place{{folder, filepath.Join("lib", libraryName())}, {folder, libraryName()}}
		}
	}
	return append(places, place{"", libraryName()})
}

// hasMoreRights reports whether the program has more rights than its caller: it is set-user-ID, or has capabilities.
func hasMoreRights() bool {
	symbol, err := purego.Dlsym(purego.RTLD_DEFAULT, "getauxval")
	if err != nil {
		return os.Geteuid() != os.Getuid() || os.Getegid() != os.Getgid()
	}
	const atSecure = 23
	var getauxval func(uintptr) uintptr
	purego.RegisterFunc(&getauxval, symbol)
	return getauxval(atSecure) != 0
}

// programFolder returns the folder of the running program, or "" if the system does not tell. If the program was run as
// lib/ld.so ./program, then /proc/self/exe is the loader, but the file mapped at our code is the program. os.Args[0] is
// not used: the caller chooses it.
func programFolder() string {
	program := mappedFile(reflect.ValueOf(mappedFile).Pointer())
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return ""
		}
	}
	return filepath.Dir(program)
}

// mappedFile returns the file that is mapped at the address, or "" without /proc.
func mappedFile(address uintptr) string {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return ""
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// 00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/program
		from, rest, _ := strings.Cut(lines.Text(), "-")
		to, _, _ := strings.Cut(rest, " ")
		begin, _ := strconv.ParseUint(from, 16, 64)
		end, _ := strconv.ParseUint(to, 16, 64)
		if at := strings.IndexByte(rest, '/'); at >= 0 && begin <= uint64(address) && uint64(address) < end {
			return rest[at:]
		}
	}
	return ""
}
