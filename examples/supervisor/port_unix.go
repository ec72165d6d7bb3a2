//go:build unix

package main

import (
	"errors"
	"syscall"
)

// exclusive takes away the SO_REUSEADDR that Go sets. With it, another socket that has it may bind the same port until
// this one listens, and who listens second fails.
func exclusive(_, _ string, socket syscall.RawConn) error {
	var refused error
	err := socket.Control(func(fd uintptr) {
		refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
	})
	return errors.Join(err, refused)
}
