package ledger_test

import (
	"path/filepath"
	"testing"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/ledger/ledgertest"
	"github.com/sluice-gateway/sluice/core/store"
)

func openSQLite(t *testing.T) *store.Store {
	t.Helper()
	keys, err := store.NewKeyring(core.Secret("a secret for these tests only"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), store.Options{SQLitePath: filepath.Join(t.TempDir(), "t.db"), Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOnSQLite(t *testing.T) { ledgertest.Run(t, openSQLite) }
