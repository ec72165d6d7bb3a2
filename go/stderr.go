package parentwatch

import (
	"strings"
	"syscall"
	"time"
	"unicode"
)

// say writes lines to stderr in one system call, and waits at most 100 ms for it. It does not use os.Stderr, which has
// a lock that the program may hold, and which raises SIGPIPE. The text is at most PIPE_BUF (4096) bytes long, so that
// it stays in one piece in a pipe. Control characters, line feeds among them, are replaced, so that a value cannot
// forge a line.
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
	case r == unicode.ReplacementChar: // invalid UTF-8
		return '?'
	}
	return r
}
