//go:build unix

package config

import "syscall"

const (
	errReadOnly = syscall.EROFS
	errInvalid  = syscall.EINVAL // what some file systems answer to a sync of a folder
)
