package parentwatch_test

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"time"

	parentwatch "github.com/mudler/localai-parentwatch/go"
)

// A worker calls Start first thing in main. Its main package would also import go/native, for its effect.
func ExampleStart() {
	os.Setenv(parentwatch.EnvParentWatch, "off") // so that this example does not watch the go command
	defer os.Unsetenv(parentwatch.EnvParentWatch)

	info, err := parentwatch.Start(parentwatch.WithScope(parentwatch.ScopeProcess))
	if err != nil {
		log.Print(err) // and go on: the watcher is a safety net
	}
	fmt.Println(info.State)
	// Output: disabled
}

// A supervisor names itself to the workers that it starts.
func ExampleChildEnv() {
	worker := exec.Command("sh", "-c", "echo $LOCALAI_BACKEND_PARENT_PID")
	worker.Env = parentwatch.ChildEnv(nil)
	out, err := worker.Output()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.HasPrefix(string(out), fmt.Sprint(os.Getpid())))
	// Output: true
}

// A program that wants to end in its own way.
func ExampleWatchParentDeath() {
	parent := os.Getppid()
	go parentwatch.WatchParentDeath(parent, parentwatch.Interval(), func() {
		log.Printf("parent %d is gone", parent)
		os.Exit(1)
	})
	// Output:
}

func ExampleInterval() {
	os.Setenv(parentwatch.EnvParentWatchInterval, "0.5")
	defer os.Unsetenv(parentwatch.EnvParentWatchInterval)
	fmt.Println(parentwatch.Enabled(), parentwatch.Interval() == 500*time.Millisecond)
	// Output: true true
}
