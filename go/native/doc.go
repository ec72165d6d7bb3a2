// Package native registers the shared library liblocalai_parentwatch as the watcher of the package parentwatch.
// A program imports it for that effect, in main:
//
//	import _ "github.com/mudler/localai-parentwatch/go/native"
//
// Nothing but the registration happens then. The first call of the package parentwatch that needs the library
// opens it, without cgo, and it stays open. It is looked for
//
//   - at LOCALAI_PARENTWATCH_LIBRARY, a path or a name for the system's loader, and nowhere else when that is set;
//   - in the folder lib beside the program, and beside the program, also when a loader that is packaged with it
//     runs it (lib/ld.so ./program);
//   - where the system's loader looks.
//
// A library of another ABI version is passed over. When none can be had, parentwatch.Start uses its degraded
// mode, writes one line to stderr, and names every place and why in [*LoadError], which is the LoadError of
// parentwatch.Status.
//
// The values of the environment are those of [os.Setenv], which sets the C library's too in every program with
// this package. The library reads them in parentwatch.Start and in the functions that ask: another goroutine
// must not call os.Setenv meanwhile, as with cgo.
//
// The import makes a program dynamic, with CGO_ENABLED=0 too. On systems other than Linux and macOS, and on 32-bit
// ones, it does nothing.
package native
