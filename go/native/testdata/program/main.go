// A worker, which the tests build for systems and in ways that have no native library.
package main

import (
	"fmt"

	parentwatch "github.com/mudler/localai-parentwatch/go"
	_ "github.com/mudler/localai-parentwatch/go/native"
)

func main() {
	info, err := parentwatch.Start()
	fmt.Println(info.State, info.Tier, info.Native, err, info.LoadError)
}
