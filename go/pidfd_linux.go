//go:build !android

package parentwatch

import (
	"os"
	"syscall"
)

// openPidfds opens a pidfd and a duplicate of it, for the runtime's poller. It returns nil before Linux 5.10, under a
// seccomp filter, or when the descriptor limit is reached.
func openPidfds(pid int) (file, spare *os.File) {
	// The number is the same on every architecture but MIPS, where the kernel answers ENOSYS.
	const pidfdOpen, pidfdNonblock = 434, syscall.O_NONBLOCK
	opened, _, errno := syscall.Syscall(pidfdOpen, uintptr(pid), pidfdNonblock, 0)
	if errno != 0 {
		return nil, nil
	}
	defer syscall.Close(int(opened))
	// Never 0, 1 or 2: a program that runs with those closed would take ours for its stderr.
	if file = duplicate(opened); file == nil {
		return nil, nil
	}
	if spare = duplicate(opened); spare == nil {
		file.Close()
		return nil, nil
	}
	return file, spare
}

func duplicate(descriptor uintptr) *os.File {
	const lowest = 3
	number, _, errno := syscall.Syscall(syscall.SYS_FCNTL, descriptor, syscall.F_DUPFD_CLOEXEC, lowest)
	if errno != 0 {
		return nil
	}
	return os.NewFile(number, "pidfd")
}
