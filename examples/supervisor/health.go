package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mudler/localai-parentwatch/examples/proto/backend"
)

// healthReport is the answer of one server, and one line of the health command's output.
type healthReport struct {
	Address string `json:"addr"`
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`
}

// health asks every server given for its health, all at once, and prints one JSON line for each.
func health(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlagSet("supervisor health [flags] HOST:PORT...", "Asks gRPC workers for their health and prints one JSON line for each; fails when one is not well.")
	timeout := flags.Duration("timeout", 2*time.Second, "how long a server may take to answer")
	if err := parse(flags, args, stdout); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return usageErrorf("no address given")
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()

	reports := make([]healthReport, flags.NArg())
	var asking sync.WaitGroup
	for i, address := range flags.Args() {
		asking.Add(1)
		go func() {
			defer asking.Done()
			reports[i].Address = address
			if err := askHealth(ctx, address); err != nil {
				reports[i].Error = err.Error()
				return
			}
			reports[i].OK = true
		}()
	}
	asking.Wait()

	lines := json.NewEncoder(stdout)
	ill := 0
	for _, report := range reports {
		if !report.OK {
			ill++
		}
		if err := lines.Encode(report); err != nil {
			return err
		}
	}
	if ill > 0 {
		return fmt.Errorf("%d of %d servers did not answer Health", ill, len(reports))
	}
	return nil
}

// askHealth calls Health of the server at address, and waits as long as ctx allows for it to
// come up.
func askHealth(ctx context.Context, address string) error {
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A server that is just starting is asked again within milliseconds, not after a second.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.3, MaxDelay: 100 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return err
	}
	defer connection.Close()

	reply, err := backend.NewBackendClient(connection).
		Health(ctx, &backend.HealthMessage{}, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	if string(reply.GetMessage()) != "OK" {
		return errors.New("the answer to Health is not OK")
	}
	return nil
}
