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

// names are those of the library, the one with the number of the ABI first.
func names() []string {
	if runtime.GOOS == "darwin" {
		return []string{"liblocalai_parentwatch.0.dylib", "liblocalai_parentwatch.dylib"}
	}
	return []string{"liblocalai_parentwatch.so.0", "liblocalai_parentwatch.so"}
}

// places are where the library is looked for, in order. What has no slash is for the system's loader.
func places() []string {
	if named := getenv(EnvLibrary); named != "" {
		return []string{named}
	}
	var places []string
	for _, folder := range folders() {
		for _, name := range names() {
			places = append(places, filepath.Join(folder, "lib", name))
		}
		for _, name := range names() {
			places = append(places, filepath.Join(folder, name))
		}
	}
	return append(places, names()...)
}

// getenv answers "" in a program that has more rights than who runs it (set-user-ID), where the C library can tell.
func getenv(name string) string {
	symbol, err := purego.Dlsym(purego.RTLD_DEFAULT, "secure_getenv")
	if err != nil {
		return os.Getenv(name)
	}
	var secureGetenv func(string) string
	purego.RegisterFunc(&secureGetenv, symbol)
	return secureGetenv(name)
}

// folders are those that the running program may lie in. For a program that is run as lib/ld.so ./program, the
// system names the loader, but what is mapped where our code lies is the program. What the program was called as
// does not count: that is up to who calls it.
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
