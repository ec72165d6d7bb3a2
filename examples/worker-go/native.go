//go:build !degraded

package main

// The watcher itself, a shared library: packed with the program, in lib/ beside it. It makes the program a
// dynamic one, which a program that opens its model's C++ library is anyway.
import _ "github.com/mudler/localai-parentwatch/go/native"
