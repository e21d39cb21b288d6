//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package app

import "os"

// lockFile refuses nobody: this system has no such locks.
func lockFile(*os.File) (taken bool) { return false }
