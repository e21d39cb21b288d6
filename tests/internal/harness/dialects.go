package harness

import "testing"

// EachDatabase runs fn on SQLite and on MariaDB. env is what a node needs to be
// started on the one or the other; fn may add to it.
func EachDatabase(t *testing.T, fn func(t *testing.T, env map[string]string)) {
	t.Run("sqlite", func(t *testing.T) { fn(t, map[string]string{}) })
	t.Run("mariadb", func(t *testing.T) { fn(t, MySQLEnv(MariaDB(t).NewDatabase(t))) })
}

// MySQLEnv is the environment of a node on a MySQL database.
func MySQLEnv(dsn string) map[string]string {
	return map[string]string{"SQL_DSN": dsn, "SESSION_SECRET": "test-session-secret-0001", "CRYPTO_SECRET": "test-crypto-secret-0001"}
}

// Main is TestMain for packages that start nodes: m.Run, then the built binary is
// removed. It returns the exit code.
func Main(m *testing.M) int {
	defer RemoveBinary()
	return m.Run()
}
