// A static program, as LocalAI has some: it must stay static with the watcher in it.
package main

import (
	"fmt"
	"os"

	parentwatch "github.com/mudler/localai-parentwatch/go"
)

func main() {
	info, err := parentwatch.Start()
	fmt.Fprintln(os.Stdout, info.State, info.Tier, info.Native, err, parentwatch.Token())
}
