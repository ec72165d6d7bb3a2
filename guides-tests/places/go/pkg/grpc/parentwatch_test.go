package grpc

import (
	"os"
	"testing"
	"time"
)

func TestWatchParentDeath(t *testing.T) {
	told := make(chan struct{})
	go watchParentDeath(os.Getppid()+1, time.Second, func() { close(told) })
	select {
	case <-told:
	case <-time.After(30 * time.Second):
		t.Error("nobody was told that somebody else is the parent")
	}
	if EnvBackendParentWatch == EnvBackendParentWatchInterval {
		t.Error("two variables have one name")
	}
}
