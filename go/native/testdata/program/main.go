// A program as a worker is, to be built in ways in which there is no library for it.
package main

import (
	"fmt"

	parentwatch "github.com/mudler/localai-parentwatch/go"
	_ "github.com/mudler/localai-parentwatch/go/native"
)

func main() {
	status, err := parentwatch.Start()
	fmt.Println(status.State, status.Tier, status.Native, err, status.LoadError)
}
