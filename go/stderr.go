package parentwatch

import (
	"strings"
	"syscall"
	"time"
	"unicode"
)

// say writes lines to stderr, all at once, and waits no longer than a moment for whoever reads them. It is the bare
// system call, since os.Stderr has a lock that the program may hold, and raises SIGPIPE. The lines stay below
// PIPE_BUF (4096), so that a pipe takes them whole. What came from elsewhere cannot forge a line: nothing in a text
// controls the terminal, a line's end included.
func say(texts ...string) {
	if len(texts) == 0 {
		return
	}
	var lines strings.Builder
	for _, text := range texts {
		lines.WriteString("localai-parentwatch: " + strings.Map(printable, text) + "\n")
	}
	all := []byte(lines.String())
	if len(all) > 4096 {
		all = append(all[:4095], '\n')
	}
	written := make(chan struct{})
	go func() {
		syscall.Write(2, all)
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(100 * time.Millisecond):
	}
}

func printable(r rune) rune {
	switch {
	case unicode.IsControl(r):
		return ' '
	case r == unicode.ReplacementChar: // what is no UTF-8
		return '?'
	}
	return r
}
