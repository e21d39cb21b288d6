// Package store keeps users, sessions, tokens, channels, groups, options,
// prices, leases, the logs and the revision in MySQL (MariaDB 10.11, MySQL 8)
// or SQLite. It is the only package that knows Bun and SQL; secrets are sealed
// and opened here.
//
// Every write of replicated state goes through Update, which raises the
// revision last and appends to the change log. The ledger's writes are short
// transactions whose guards stand in WHERE. All tables are named sluice_*, so
// that they can live in a database beside New API's.
//
// It must not know HTTP, Redis, snapshots or what a request costs.
package store
