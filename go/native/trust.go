//go:build (linux || darwin) && !android && (amd64 || arm64 || loong64 || ppc64le || riscv64 || (s390x && cgo))

package native

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// trust is whose files the program runs code of: root's, its own user's, and those of the program's owner.
type trust []uint32

func trusted() trust {
	users := trust{0, uint32(os.Geteuid())}
	// What this names is the very file that runs, whatever has its name by now: the program, or the loader that is
	// packaged with it.
	if program, err := os.Stat("/proc/self/exe"); err == nil {
		users = append(users, program.Sys().(*syscall.Stat_t).Uid)
	}
	return users
}

const maxLinks = 40 // as many as Linux follows

// check tells why the library at base/name is not to be run: it is no file, or somebody else may write to it, or put
// another one in its place. It looks at the file and at its folders from base on. Of a symbolic link, the folder that
// it lies in counts and what it points to, with the folders above that.
//
// The way to base does not count: whoever may change it may replace the program itself, or was trusted by who has named
// the library. Nobody else can change what was checked before it is loaded, so that its name is enough. (By
// /proc/self/fd the loader would give it a name that means another file later.)
func (users trust) check(base, name string) error {
	if !filepath.IsAbs(base) {
		here, err := os.Getwd()
		if err != nil {
			return reason(err)
		}
		base = here + "/" + base
	}
	base, err := filepath.EvalSymlinks(base)
	if err != nil {
		return reason(err)
	}
	folder, rest, links := base, name, 0
	for rest != "" {
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			folder = filepath.Dir(folder)
			continue
		}
		path := filepath.Join(folder, name)
		entry, err := os.Lstat(path)
		if err != nil {
			return reason(err)
		}
		if leadsToBase := strings.HasPrefix(base+"/", path+"/"); !leadsToBase {
			holdsIt := folder == base || rest == ""
			if err := users.checkFolder(folder, entry, holdsIt); err != nil {
				return err
			}
		}
		switch {
		case entry.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return reason(err)
			}
			if links++; links > maxLinks {
				return syscall.ELOOP
			}
			if filepath.IsAbs(target) {
				folder = "/"
			}
			rest = target + "/" + rest
		case rest != "":
			folder = path
		case entry.Mode().IsRegular():
			return users.checkOne(path, entry)
		}
	}
	return errors.New("it is no regular file") // The loader would wait for the other end of a FIFO.
}

// checkFolder looks at the folder that an entry lies in. In a sticky one, such as /tmp, nobody can remove or rename
// what is another's: it may be on the way to the library. It is no folder to find the library in, since everybody may
// put one there.
func (users trust) checkFolder(path string, entry fs.FileInfo, holdsIt bool) error {
	folder, err := os.Lstat(path)
	if err != nil {
		return reason(err)
	}
	if !holdsIt && folder.Mode()&fs.ModeSticky != 0 && users.own(folder) && users.own(entry) {
		return nil
	}
	return users.checkOne(path, folder)
}

// reason is what is wrong with a path, without the path.
func reason(err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return of.Err
	}
	return err
}

func (users trust) own(file fs.FileInfo) bool {
	return slices.Contains(users, file.Sys().(*syscall.Stat_t).Uid)
}

// checkOne looks at one file or folder. Of the groups, root's alone is trusted: who is in another one is not to be
// known from here.
func (users trust) checkOne(path string, found fs.FileInfo) error {
	stat := found.Sys().(*syscall.Stat_t)
	const byGroup, byOthers = 0o020, 0o002
	mode := found.Mode().Perm()
	if users.own(found) && mode&byOthers == 0 && (mode&byGroup == 0 || stat.Gid == 0) {
		return nil
	}
	return fmt.Errorf("others than %v may write to %s (owner %d, group %d, mode %04o)",
		users, path, stat.Uid, stat.Gid, stat.Mode&0o7777)
}

// String lists each user once.
func (users trust) String() string {
	words := make([]string, 0, len(users))
	for _, user := range slices.Compact(slices.Sorted(slices.Values(users))) {
		words = append(words, fmt.Sprint(user))
	}
	if len(words) == 1 {
		return "user " + words[0]
	}
	return "users " + strings.Join(words, ", ")
}
