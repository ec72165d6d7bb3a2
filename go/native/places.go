//go:build (linux || darwin) && (amd64 || arm64 || loong64 || ppc64le || riscv64 || s390x)

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
)

// EnvLibrary names the shared library: a path, or a name for the system's loader. When it is set, no other place
// is tried.
const EnvLibrary = "LOCALAI_PARENTWATCH_LIBRARY"

// names are those of the library, the one with the number of the ABI first.
func names() []string {
	if runtime.GOOS == "darwin" {
		return []string{"liblocalai_parentwatch.0.dylib", "liblocalai_parentwatch.dylib"}
	}
	return []string{"liblocalai_parentwatch.so.0", "liblocalai_parentwatch.so"}
}

// places are where the library is looked for, in order. What has no slash is for the system's loader.
func places() []string {
	if named := os.Getenv(EnvLibrary); named != "" {
		return []string{named}
	}
	var places []string
	for _, program := range programs() {
		folder := filepath.Dir(program)
		for _, name := range names() {
			places = append(places, filepath.Join(folder, "lib", name))
		}
		for _, name := range names() {
			places = append(places, filepath.Join(folder, name))
		}
	}
	return append(places, names()...)
}

// programs are the paths that the running program may have. For a program that is run as lib/ld.so ./program,
// the system names the loader, but what is mapped where our code lies is the program.
func programs() []string {
	candidates := []string{mappedFile(reflect.ValueOf(mappedFile).Pointer())}
	if executable, err := os.Executable(); err == nil {
		candidates = append(candidates, executable)
	}
	if invoked, err := filepath.Abs(os.Args[0]); err == nil && strings.Contains(os.Args[0], "/") {
		candidates = append(candidates, invoked)
	}
	var programs []string
	for _, candidate := range candidates {
		if candidate != "" && !slices.Contains(programs, candidate) {
			programs = append(programs, candidate)
		}
	}
	return programs
}

// mappedFile is the file that is mapped at the address; "" where /proc does not tell.
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
