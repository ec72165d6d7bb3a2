//go:build native

package main

import _ "github.com/mudler/localai-parentwatch/go/native"
