// The worker in Go, with the Go module. For its command line and requests see e2e/workers/c/worker.c. With the build
// tag "native" it has the native library. Without the tag it runs in the degraded mode. It has no fork, no hook and no
// exit handlers, since Go has none.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	parentwatch "github.com/mudler/localai-parentwatch/go"
)

const (
	threads   = 16
	separator = "\x1f"
)

var (
	reportFD = flag.Int("report", -1, "the socket that takes the reports")
	name     = flag.String("name", "worker", "what the driver calls this process")
	when     = flag.String("arm", "first", "first or request")
)

type message map[string]any

func main() {
	flag.Parse()
	status := string(parentwatch.NotStarted)
	if *when == "first" {
		status = arm()
	} else {
		haveThreads()
	}
	listener, err := listen()
	if err != nil {
		fail(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	report(message{"event": "serving", "pid": os.Getpid(), "port": port, "status": status})
	for {
		if connection, err := listener.Accept(); err == nil {
			serve(connection)
		}
	}
}

// haveThreads makes the threads that the runtime will need. The runtime ends the program when it cannot make a thread,
// and a scenario may forbid new threads before the worker arms.
func haveThreads() {
	var all sync.WaitGroup
	for range threads {
		all.Go(func() {
			pause := syscall.NsecToTimespec(int64(time.Millisecond))
			_ = syscall.Nanosleep(&pause, nil)
		})
	}
	all.Wait()
}

// haveIdleThreads makes that many threads that stay. A goroutine that is locked to its thread keeps it.
func haveIdleThreads(count int) {
	var all sync.WaitGroup
	for range count {
		all.Add(1)
		go func() {
			runtime.LockOSThread()
			all.Done()
			select {}
		}()
	}
	all.Wait()
}

// serve answers until the driver closes the connection.
func serve(connection net.Conn) {
	defer connection.Close()
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		words := strings.Split(lines.Text(), separator)
		reply, err := answer(words[0], words[1:])
		if err != nil {
			fail(fmt.Errorf("%s: %w", words[0], err))
		}
		// The driver may have closed the connection.
		_, _ = connection.Write(append(encode(reply), '\n'))
	}
}

func answer(request string, arguments []string) (message, error) {
	switch request {
	case "ping":
		return message{"pid": os.Getpid(), "ppid": os.Getppid()}, nil
	case "info":
		return info(), nil
	case "arm":
		return message{"status": arm()}, nil
	case "arm-from-threads":
		return message{"statuses": armFromThreads()}, nil
	case "arm-in-thread":
		go arm()
		return message{}, nil
	case "token":
		return message{"token": parentwatch.Token()}, nil
	case "start":
		return start(arguments)
	case "handle":
		handle(syscall.SIGUSR1, "handled")
		handle(syscall.SIGUSR2, "waited")
		return message{}, nil
	case "flood":
		flood()
		return message{}, nil
	case "resist":
		signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM)
		return message{}, nil
	}
	numbers := make([]int, len(arguments))
	for i, argument := range arguments {
		number, err := strconv.Atoi(argument)
		if err != nil {
			return nil, err
		}
		numbers[i] = number
	}
	switch {
	case request == "setuid" && len(numbers) == 1:
		return message{"result": 0}, syscall.Setuid(numbers[0])
	case request == "replace" && len(numbers) > 0:
		return message{}, replace(numbers[0], numbers[1:])
	case request == "drain" && len(numbers) == 1:
		drain(time.Duration(numbers[0]) * time.Millisecond)
		return message{}, nil
	case request == "threads" && len(numbers) == 1:
		haveIdleThreads(numbers[0])
		return message{}, nil
	case request == "close" && len(numbers) == 1:
		return message{}, syscall.Close(numbers[0])
	}
	return nil, fmt.Errorf("an unknown request")
}

// listen listens on a free port. It sets SO_REUSEADDR last: with that option, which Go sets first, another socket may
// bind the same port until this one listens. Accepted connections inherit the option.
func listen() (net.Listener, error) {
	reuse := func(socket syscall.RawConn, value int) error {
		var refused error
		err := socket.Control(func(fd uintptr) {
			refused = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, value)
		})
		return errors.Join(err, refused)
	}
	plain := net.ListenConfig{Control: func(_, _ string, socket syscall.RawConn) error { return reuse(socket, 0) }}
	listener, err := plain.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	socket, err := listener.(*net.TCPListener).SyscallConn()
	return listener, errors.Join(err, reuse(socket, 1))
}

// drain makes SIGTERM begin a graceful stop. If the time is negative, SIGTERM is ignored.
func drain(length time.Duration) {
	if length < 0 {
		signal.Ignore(syscall.SIGTERM)
		return
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked
		time.Sleep(length)
		os.Exit(9)
	}()
}

func arm() string {
	info, _ := parentwatch.Start()
	return string(info.State)
}

func info() message {
	info := parentwatch.Status()
	return message{
		"state":       info.State,
		"tier":        info.Tier.String(),
		"watched":     []int{info.Parent, info.Supervisor},
		"scope":       info.Scope.String(),
		"interval_ns": info.Interval.Nanoseconds(),
		"grace_ns":    info.Grace.Nanoseconds(),
		"native":      info.Native,
	}
}

func armFromThreads() []string {
	statuses := make([]string, threads)
	begin := make(chan struct{})
	var all sync.WaitGroup
	for i := range statuses {
		all.Go(func() {
			runtime.LockOSThread()
			<-begin
			statuses[i] = arm()
		})
	}
	close(begin)
	all.Wait()
	return statuses
}

// start starts a helper in this process group. The helper's stdin is a pipe that stays open until this process ends.
func start(command []string) (message, error) {
	helper := exec.Command(command[0], command[1:]...)
	helper.Stdout, helper.Stderr = os.Stdout, os.Stderr
	stdin, err := helper.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := helper.Start(); err != nil {
		return nil, err
	}
	kept = append(kept, stdin)
	return message{"pid": helper.Process.Pid}, nil
}

// kept holds what the garbage collector must not close.
var kept []any

func handle(number os.Signal, event string) {
	received := make(chan os.Signal, 1)
	signal.Notify(received, number)
	go func() {
		for range received {
			report(message{"event": event})
		}
	}()
}

// replace replaces a descriptor by a readable pipe, or by a pidfd on another process. A host program that closes
// unknown descriptors and opens others has that effect.
func replace(target int, pid []int) error {
	var source int
	if len(pid) > 0 {
		// pidfd_open has this number on every architecture except alpha.
		const pidfdOpen = 434
		descriptor, _, errno := syscall.Syscall(pidfdOpen, uintptr(pid[0]), 0, 0)
		if errno != 0 {
			return errno
		}
		source = int(descriptor)
	} else {
		var ends [2]int
		if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
			return err
		}
		if _, err := syscall.Write(ends[1], []byte("x")); err != nil {
			return err
		}
		source = ends[0]
	}
	return syscall.Dup3(source, target, syscall.O_CLOEXEC)
}

// flood starts four goroutines that write to os.Stderr forever. os.Stderr has a lock.
func flood() {
	for range 4 {
		go func() {
			for {
				fmt.Fprintln(os.Stderr, "the host logs without end, line after line after line after line after line")
			}
		}()
	}
}

func report(content message) {
	content["name"] = *name
	// Without SIGPIPE, whose disposition some scenarios test.
	_ = syscall.Sendto(*reportFD, encode(content), syscall.MSG_NOSIGNAL, nil)
}

func encode(content message) []byte {
	text, err := json.Marshal(content)
	if err != nil {
		fail(err)
	}
	return text
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "worker-go:", err)
	os.Exit(2)
}
