package store_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/core/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSQLite(t *testing.T) { storetest.Run(t, storetest.Backend{Isolated: true}) }
