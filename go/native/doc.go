// Package native registers the shared library liblocalai_parentwatch as the watcher of the package parentwatch.
// Import it in main, for this effect only:
//
//	import _ "github.com/mudler/localai-parentwatch/go/native"
//
// The import itself opens nothing. The first call of the package parentwatch that needs the library opens it, without
// cgo, and it stays open. No call opens it while LOCALAI_BACKEND_PARENT_WATCH switches the watcher off.
//
// # Where the library is looked for
//
//   - At LOCALAI_PARENTWATCH_LIBRARY, if that is set, and nowhere else. It is a path, or a name for the dynamic loader.
//   - In the folder lib beside the program, then beside the program itself. This also works if a packaged loader runs
//     the program (lib/ld.so ./program), as far as /proc tells where the program is.
//   - Where the dynamic loader looks. A set-user-ID program, or one with capabilities, looks only there.
//
// In the first two places, a library is rejected if another user could replace it. The library, its folder, and the
// program's folder above that must belong to root, to the effective user or to the owner of /proc/self/exe. Only the
// owner and root's group may be able to write to them, even if the folder is sticky. For a symbolic link, both the
// folder of the link and its target are checked. Folders further up are not checked: a user who can write there can
// replace the program itself, or was trusted by the one who set the path. The dynamic loader judges what it finds
// itself.
//
// A library with another ABI version is rejected too. If there is no library, parentwatch.Start uses the degraded mode
// and writes one line to stderr, with these places and why. LoadError in parentwatch.Info is then a [*LoadError], which
// has each error.
//
// # The environment
//
// The library reads the environment of the C library. In a program with this package, [os.Setenv] changes that too. The
// call that opens the library reads it, and so do parentwatch.Start, and parentwatch.Status until the watcher is armed.
// Another goroutine must not call os.Setenv meanwhile, as with cgo.
//
// # What the import changes
//
// The import makes a program dynamic, even with CGO_ENABLED=0: it then needs glibc. A program that is linked statically
// all the same has the degraded mode. With CGO_ENABLED=0 the import also makes [syscall.AllThreadsSyscall] return
// ENOTSUP, as cgo does. Packages that rely on it without cgo get this error, such as
// kernel.org/pub/linux/libs/security/libcap/psx and the Landlock libraries that use it.
//
// On systems and processors for which there is no library (Windows, 32-bit processors), this package is empty and the
// import does nothing.
package native

// EnvLibrary names the shared library: a path, or a name for the dynamic loader. If it is set, no other place is tried.
// Set-user-ID programs and programs with capabilities ignore it.
const EnvLibrary = "LOCALAI_PARENTWATCH_LIBRARY"
