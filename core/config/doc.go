// Package config reads the configuration of a node, once: defaults, the YAML
// file, the environment (own names and New API's), flags. The result is one
// typed, checked, immutable value that knows where each of its parts came from.
//
// It is the only package that reads the environment and the only door of koanf.
// It must not know what a value is used for: it opens no database, no listener
// and no log.
package config
