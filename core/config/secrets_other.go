//go:build !unix

package config

import "io/fs"

var (
	errReadOnly = fs.ErrPermission
	errInvalid  = fs.ErrInvalid
)
