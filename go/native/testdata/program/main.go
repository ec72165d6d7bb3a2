// A program as a worker is, to be built in ways in which there is no library for it.
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
