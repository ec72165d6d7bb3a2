// Package grpc is where every backend has its server from.
package grpc

import (
	"fmt"
	"net"

	parentwatch "github.com/mudler/localai-parentwatch/go"
)

// StartServer listens, and answers who asks with the state of the watcher.
func StartServer(address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer listener.Close()
	startParentDeathWatcher()
	status := parentwatch.Status()
	_, err = fmt.Println(status.State, status.Tier, status.Native)
	return err
}
