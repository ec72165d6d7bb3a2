//go:build (linux || darwin) && !android && (amd64 || arm64 || loong64 || ppc64le || riscv64 || (s390x && cgo))

package native

import (
	"bufio"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/ebitengine/purego"
)

// names returns the file names of the library. The one with the ABI number comes first.
func names() []string {
	if runtime.GOOS == "darwin" {
		return []string{"liblocalai_parentwatch.0.dylib", "liblocalai_parentwatch.dylib"}
	}
	return []string{"liblocalai_parentwatch.so.0", "liblocalai_parentwatch.so"}
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
		for _, folder := range folders() {
			for _, name := range names() {
				places = append(places, place{folder, filepath.Join("lib", name)})
			}
			for _, name := range names() {
				places = append(places, place{folder, name})
			}
		}
	}
	for _, name := range names() {
		places = append(places, place{"", name})
	}
	return places
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

// folders returns the folders in which the running program may be. If it was run as lib/ld.so ./program, then
// /proc/self/exe is the loader, but the file mapped at our code is the program. os.Args[0] is not used: the caller
// chooses it.
func folders() []string {
	programs := []string{mappedFile(reflect.ValueOf(mappedFile).Pointer())}
	if executable, err := os.Executable(); err == nil {
		programs = append(programs, executable)
	}
	var folders []string
	for _, program := range programs {
		if folder := filepath.Dir(program); program != "" && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	return folders
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
