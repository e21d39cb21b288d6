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
	providers = "providers.yaml"
	prices    = "prices.yaml"
)

// Read returns the content of a file by one of the names above. Each call makes
// a copy.
func Read(name string) ([]byte, error) { return files.ReadFile(name) }

// Providers returns the provider catalogue.
func Providers() []byte { return embedded(providers) }

// Prices returns the default prices.
func Prices() []byte { return embedded(prices) }

// embedded reads a file that the build put in; a build without it fails its tests,
// and its reader refuses the empty text.
func embedded(name string) []byte {
	data, err := files.ReadFile(name)
	if err != nil {
		return nil
	}
	return data
}
