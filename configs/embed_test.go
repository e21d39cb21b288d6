package configs_test

import (
	"testing"

	"github.com/sluice-gateway/sluice/configs"
)

func TestRead(t *testing.T) {
	for _, name := range []string{configs.Sluice, configs.Cluster} {
		if data, err := configs.Read(name); err != nil || len(data) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	if len(configs.Providers()) == 0 || len(configs.Prices()) == 0 {
		t.Error("the catalogue or the prices are not in the build")
	}
	if _, err := configs.Read("missing.yaml"); err == nil {
		t.Error("a missing file was read")
	}
}
