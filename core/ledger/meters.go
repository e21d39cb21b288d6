package ledger

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/core/telemetry"
)

// meters are the ledger's own metrics. Tokens and cost are counted by the
// relay, but for what Recover settles.
type meters struct {
	open, pending, logs prometheus.Gauge
	quota, dropped      prometheus.Counter
}

func newMeters(m *telemetry.Metrics) *meters {
	if m == nil {
		m = telemetry.NewMetrics(prometheus.NewRegistry())
	}
	return &meters{open: m.LedgerOpen, pending: m.LedgerPending, logs: m.LogQueue, quota: m.Quota, dropped: m.LogDropped}
}
