package parentwatch

import (
	"strings"
	"syscall"
	"time"
)

// say writes one line to stderr and waits no longer than a moment for whoever reads it. It is the bare system
// call, since os.Stderr has a lock that the program may hold, and raises SIGPIPE. The line is below PIPE_BUF (4096),
// so that a pipe takes it whole.
func say(text string) {
	line := strings.ToValidUTF8("localai-parentwatch: "+text, "?")
	written := make(chan struct{})
	go func() {
		syscall.Write(2, []byte(line[:min(len(line), 4095)]+"\n"))
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(100 * time.Millisecond):
	}
}
