package app

import "runtime/debug"

// The live heap of a gateway is small (tens of MB) and its garbage is many short
// buffers: Go's default of collecting at twice the live heap spends a tenth of the
// CPU on it. Four times costs a few dozen MB and is a third of that. GOGC, where the
// operator has set it, is left alone.
const (
	goDefaultGC = 100
	gcPercent   = 400
)

func tuneGC() {
	if old := debug.SetGCPercent(gcPercent); old != goDefaultGC {
		debug.SetGCPercent(old)
	}
}
