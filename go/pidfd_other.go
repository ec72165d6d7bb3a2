//go:build !linux || android

package parentwatch

import "os"

// openPidfds has none: Android ends a program that asks for one, and the others know none.
func openPidfds(int) (file, spare *os.File) { return nil, nil }
