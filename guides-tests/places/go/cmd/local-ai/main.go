// Local-ai starts a backend, says its process id, and stays until it is killed:
//
//	local-ai BACKEND STATEDIR
//	local-ai p2p-worker PROGRAM
package main

import (
	"fmt"
	"os"

	"example.org/localai/core/cli/worker"
	"example.org/localai/pkg/model"
)

func main() {
	if os.Args[1] == "p2p-worker" {
		if err := worker.Run(os.Args[2]); err != nil {
			panic(err)
		}
		return
	}
	started, err := model.StartProcess(os.Args[1], "127.0.0.1:1", os.Args[2])
	if err != nil {
		panic(err)
	}
	fmt.Println(started.CurrentPID())
	select {}
}
