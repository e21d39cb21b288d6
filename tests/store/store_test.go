// Package store runs the suite of core/store on databases that are processes:
// a real MariaDB, and MySQL 8's grammar as go-mysql-server reads it.
package store

import (
	"testing"

	"github.com/sluice-gateway/sluice/core/store/storetest"
	"github.com/sluice-gateway/sluice/tests/internal/gomysql"
	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

func TestMariaDB(t *testing.T) {
	server := harness.MemoryMariaDB(t)
	storetest.Run(t, storetest.Backend{NewDatabase: func(t *testing.T) string { return server.NewDatabase(t) }, Isolated: true})
}

func TestGoMySQLServer(t *testing.T) {
	storetest.Run(t, storetest.Backend{NewDatabase: func(t *testing.T) string { return gomysql.NewDatabase(t) }})
}
