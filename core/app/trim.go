package app

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// Closed reservations are kept for a day, to be compared with the log.
const (
	trimInterval = 10 * time.Minute
	leaseKept    = 24 * time.Hour
)

// trim removes closed reservations: direct billing makes a row a request.
func (a *app) trim(ctx context.Context) {
	if a.node.Role == core.NodeSlave {
		return
	}
	t := time.NewTicker(trimInterval)
	defer t.Stop()
	for {
		if n, err := a.store.DeleteLeases(ctx, time.Now().Add(-leaseKept)); err != nil && ctx.Err() == nil {
			a.Logger.Warn("closed reservations could not be trimmed", "error", err)
		} else if n > 0 {
			a.Logger.Info("closed reservations trimmed", "rows", n)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
