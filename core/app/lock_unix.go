//go:build linux || darwin || freebsd || netbsd || openbsd

package app

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes f for as long as it is open. taken means that another process
// has it. A file system that knows no locks refuses nobody.
func lockFile(f *os.File) (taken bool) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return errors.Is(err, syscall.EWOULDBLOCK)
		}
	}
}
