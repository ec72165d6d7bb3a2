// Package native registers the shared library liblocalai_parentwatch as the watcher of the package parentwatch.
// A program imports it for that effect, in main:
//
//	import _ "github.com/mudler/localai-parentwatch/go/native"
//
// Nothing but the registration happens then. The first call of the package parentwatch that needs the library
// opens it, without cgo, and it stays open. While LOCALAI_BACKEND_PARENT_WATCH switches the watcher off, no call
// does. It is looked for
//
//   - at LOCALAI_PARENTWATCH_LIBRARY, a path or a name for the system's loader, and nowhere else when that is set;
//   - in the folder lib beside the program, and beside the program, also when a loader that is packaged with it
//     runs it (lib/ld.so ./program), as far as /proc tells where that is;
//   - where the system's loader looks. A set-user-ID program, or one with capabilities, looks only there.
//
// In the first two places, a library that somebody else can replace is passed over. The library, the folder that it
// lies in, and the program's folder above that, must belong to root, to the effective user or to the owner of
// /proc/self/exe, and nobody else may write to them: no group but root's, and not others, whether the folder is sticky
// or not. A symbolic link counts where it lies and where it points. The folders above the program's, or above that of
// a named library, do not count: who may write there may replace the program, or was trusted by who has named it.
// What the system's loader finds is the loader's to judge.
//
// A library of another ABI version is passed over too. When none can be had, parentwatch.Start uses its degraded
// mode, writes one line to stderr, and names every place and why in [*LoadError], which is the LoadError of
// parentwatch.Info.
//
// The values of the environment are those of [os.Setenv], which sets the C library's too in every program with
// this package. They are read there by the call that opens the library, by parentwatch.Start, and by
// parentwatch.Status until the watcher is armed: another goroutine must not call os.Setenv meanwhile, as
// with cgo.
//
// The import makes a program dynamic, with CGO_ENABLED=0 too: it needs glibc then. A program that is linked static
// all the same has the degraded mode. With CGO_ENABLED=0 the import also makes [syscall.AllThreadsSyscall] answer
// ENOTSUP, as cgo does: what is built on it without cgo, such as kernel.org/pub/linux/libs/security/libcap/psx and
// the Landlock libraries over that, gets this error.
//
// Where there is no library for the system or the processor (32-bit ones among them), LoadError says so. On Windows
// the import does nothing.
package native

// EnvLibrary names the shared library: a path, or a name for the system's loader. When it is set, no other place
// is tried. A set-user-ID program, or one with capabilities, does not heed it.
const EnvLibrary = "LOCALAI_PARENTWATCH_LIBRARY"
