//go:build !android

package parentwatch

import (
	"os"
	"syscall"
)

// openPidfds opens two descriptors of one pidfd, for the runtime's poller. Nil: there are none to be had, before
// Linux 5.10, under a seccomp filter, or with no descriptor left.
func openPidfds(pid int) (file, spare *os.File) {
	// The number is that of every architecture but MIPS, where the kernel answers ENOSYS.
	const pidfdOpen, pidfdNonblock = 434, syscall.O_NONBLOCK
	opened, _, errno := syscall.Syscall(pidfdOpen, uintptr(pid), pidfdNonblock, 0)
	if errno != 0 {
		return nil, nil
	}
	defer syscall.Close(int(opened))
	// Never 0, 1 or 2: where those are closed, the program may take whatever has the number for its stderr.
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
