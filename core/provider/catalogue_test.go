package provider

import (
	"os"
	"testing"
)

func load(t testing.TB) *Catalogue {
	t.Helper()
	data, err := os.ReadFile("../../configs/providers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestShippedCatalogueLoads(t *testing.T) {
	c := load(t)
	for _, typ := range []int{1, 3, 4, 8, 14, 17, 20, 24, 25, 26, 27, 31, 34, 38, 40, 42, 43, 45, 46, 47, 48, 53, 60} {
		if _, ok := c.Row(typ); !ok {
			t.Errorf("type %d has no row", typ)
		}
	}
}
