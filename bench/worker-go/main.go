// The worker in Go: the report of ../worker.c, and two of its words, watch and time-arming.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	parentwatch "github.com/mudler/localai-parentwatch/go"
	_ "github.com/mudler/localai-parentwatch/go/native"
)

// Of bench.h.
const (
	workerReady = 1
	armedOnce   = 3
	tierEvent   = 1
	armed       = 0
)

type report struct {
	Kind, PID, Status, Tier int32
	Values                  [5]int64
}

func main() {
	kind := int32(workerReady)
	if os.Args[1] == "time-arming" {
		kind = armedOnce
	}
	began := time.Now()
	status, err := parentwatch.Start()
	took := time.Since(began)
	if err != nil || status.Tier != parentwatch.TierEvent {
		fmt.Fprintf(os.Stderr, "bench: the Go worker is not armed: %+v, %v\n", status, err)
		os.Exit(2)
	}
	text := new(bytes.Buffer)
	binary.Write(text, binary.NativeEndian, report{
		kind, int32(os.Getpid()), armed, tierEvent, [5]int64{took.Nanoseconds()},
	})
	os.Stdout.Write(text.Bytes())
	if kind == workerReady {
		// Until the driver is gone.
		os.Stdin.Read(make([]byte, 1))
	}
}
