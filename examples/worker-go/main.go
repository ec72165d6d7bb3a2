// Worker-go is a LocalAI backend in Go that has what the real ones have, save the model: a load that blocks
// for as long as it is told to, and a graceful stop on SIGTERM and SIGINT. It dies with the process that
// started it.
//
// The part that is about this project is the first line of main, and the import in native.go. Built with
// -tags degraded the program has only the first of the two: it is static then, as some of LocalAI's backends
// are, and looks after its supervisor every other second.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/mudler/localai-parentwatch/examples/proto/backend"
	parentwatch "github.com/mudler/localai-parentwatch/go"
)

// stopTimeout is how long calls that are under way at a stop have to end by themselves.
const stopTimeout = 30 * time.Second

func main() {
	parentwatch.Start() // From here on this process does not outlive its supervisor.

	log.SetFlags(0)
	log.SetPrefix("worker-go: ")
	address := flag.String("addr", "localhost:50051", "where to listen, as `HOST:PORT`")
	loadSeconds := flag.Int("load-seconds", 0, "how long LoadModel blocks, in seconds")
	flag.Parse()
	if err := serve(*address, time.Duration(*loadSeconds)*time.Second); err != nil {
		log.Fatal(err)
	}
}

// serve answers calls until SIGTERM or SIGINT.
func serve(address string, loadTime time.Duration) error {
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	backend.RegisterBackendServer(server, &echo{loadTime: loadTime})
	go func() {
		<-stop.Done()
		log.Print("stopping")
		time.AfterFunc(stopTimeout, server.Stop)
		server.GracefulStop()
	}()
	log.Printf("listening on %s", address)
	if err := server.Serve(listener); err != nil {
		return err
	}
	log.Print("stopped")
	return nil
}

// echo answers the calls that LocalAI makes: no model in it, but a real server around the hole.
type echo struct {
	backend.UnimplementedBackendServer
	loadTime time.Duration
	state    atomic.Int32 // a backend.StatusResponse_State
}

func (e *echo) Health(context.Context, *backend.HealthMessage) (*backend.Reply, error) {
	return &backend.Reply{Message: []byte("OK")}, nil
}

func (e *echo) LoadModel(_ context.Context, options *backend.ModelOptions) (*backend.Result, error) {
	e.state.Store(int32(backend.StatusResponse_BUSY))
	log.Printf("loading %s", options.GetModel())
	// A real load reads files and fills memory, and asks nobody whether it should go on.
	time.Sleep(e.loadTime)
	e.state.Store(int32(backend.StatusResponse_READY))
	return &backend.Result{Success: true, Message: fmt.Sprintf("loaded %s", options.GetModel())}, nil
}

// Predict is an echo: a model that always agrees.
func (e *echo) Predict(_ context.Context, options *backend.PredictOptions) (*backend.Reply, error) {
	return &backend.Reply{Message: []byte(options.GetPrompt())}, nil
}

func (e *echo) Status(context.Context, *backend.HealthMessage) (*backend.StatusResponse, error) {
	return &backend.StatusResponse{State: backend.StatusResponse_State(e.state.Load())}, nil
}
