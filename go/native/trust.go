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

// trust lists the users whose files may be loaded: root, the effective user, and the program's owner.
type trust []uint32

func trusted() trust {
	users := trust{0, uint32(os.Geteuid())}
	// This is the file that runs (the program, or a loader packaged with it), even if its name now belongs to another.
	if program, err := os.Stat("/proc/self/exe"); err == nil {
		users = append(users, program.Sys().(*syscall.Stat_t).Uid)
	}
	return users
}

const maxLinks = 40 // as many as Linux follows

// check returns nil if the library at base/name may be loaded, else the reason: it is no regular file, or another user
// may write to it or replace it. It checks the file and its folders from base on. For a symbolic link it checks the
// folder of the link, the target, and the folders above the target.
//
// Folders above base are not checked: a user who can write there can replace the program itself, or was trusted by the
// one who set the path. What was checked cannot change before it is loaded, so the file can be loaded by its name. (A
// descriptor would not do: the loader would remember /proc/self/fd/N, which is another file later.)
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
	return errors.New("it is no regular file") // Opening a FIFO, for example, would block.
}

// checkFolder checks the folder of an entry. In a sticky folder, such as /tmp, users cannot remove or rename the files
// of others, so it may be part of the path. The library itself must not be in one, since everybody can put one there.
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

// reason removes the path from an error.
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

// checkOne checks one file or folder. Only root's group is trusted: the members of other groups are not known here.
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
