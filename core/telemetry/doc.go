// Package telemetry is what an operator sees of a node: the log with its
// redaction, the metrics, the version. Every room may import it.
//
// It must not know where a value comes from: it reads no configuration and no
// environment, and decides nothing about requests.
package telemetry
