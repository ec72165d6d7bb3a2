//go:build !linux || android

package parentwatch

import "os"

// openPidfds returns nil: Android kills a program that calls pidfd_open, and other systems do not have it.
func openPidfds(int) (file, spare *os.File) { return nil, nil }
