// Package ledger runs the ledger's suite on MariaDB, and takes the server away
// in the middle.
package ledger
