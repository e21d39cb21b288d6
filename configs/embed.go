// Package configs holds the files that ship with the gateway: the commented
// configuration, the cluster example, the provider catalogue and the default
// prices. It knows their names and nothing of their content.
package configs

import "embed"

//go:embed *.yaml
var files embed.FS

// The names of the files.
const (
	Sluice    = "sluice.yaml"
	Cluster   = "cluster.yaml"
	Providers = "providers.yaml"
	Prices    = "prices.yaml"
)

// Read returns the content of a file by one of the names above. Each call makes
// a copy.
func Read(name string) ([]byte, error) { return files.ReadFile(name) }
