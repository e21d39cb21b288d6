package telemetry

import "github.com/prometheus/client_golang/prometheus"

// Metrics are the node's measurements. Names begin with sluice_, units are base
// units, and label values come from bounded sets: callers put in model names
// that are configured, never what a client made up.
type Metrics struct {
	Requests          *prometheus.CounterVec   // endpoint, model, provider, status
	RequestSeconds    *prometheus.HistogramVec // endpoint
	OverheadSeconds   prometheus.Histogram     // the gateway's own part
	FirstTokenSeconds *prometheus.HistogramVec // provider
	InterTokenSeconds prometheus.Histogram
	Tokens            *prometheus.CounterVec // type: input, output, cache_read, …
	Quota             prometheus.Counter     // settled units; 500,000 are 1 USD
	RateLimited       *prometheus.CounterVec // limit
	CacheHits         *prometheus.CounterVec // cache
	CacheMisses       *prometheus.CounterVec // cache
	UpstreamErrors    *prometheus.CounterVec // provider, reason
	BreakerOpen       *prometheus.GaugeVec   // channel: 1 = takes no traffic
	ConfigRevision    prometheus.Gauge       // applied revision
	SyncLagSeconds    prometheus.Gauge       // since the last successful look at the database
	LedgerPending     prometheus.Gauge       // settlements that wait for the database
	LedgerOpen        prometheus.Gauge       // open reservations
	LogQueue          prometheus.Gauge       // usage log rows that wait
	LogDropped        prometheus.Counter     // usage log rows lost to a full queue
	DBErrors          *prometheus.CounterVec // op
	BuildInfo         *prometheus.GaugeVec   // version, always 1
	StreamsActive     prometheus.Gauge
	InFlight          prometheus.Gauge
}

// Namespace begins the name of every metric.
const Namespace = "sluice"

// NewMetrics makes the metrics and registers them. Two on one registry panic.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := factory{reg}
	// LLM calls take from milliseconds (embeddings) to many minutes (streams).
	long := []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	first := []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}
	own := []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1}
	between := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}
	return &Metrics{
		Requests:          f.counters("requests_total", "Relayed requests.", "endpoint", "model", "provider", "status"),
		RequestSeconds:    f.histograms("request_duration_seconds", "Time from a request's header to the end of its answer.", long, "endpoint"),
		OverheadSeconds:   f.histogram("overhead_seconds", "Time that a request spent in the gateway before it went upstream.", own),
		FirstTokenSeconds: f.histograms("first_token_seconds", "Time to the first byte of a streamed answer.", first, "provider"),
		InterTokenSeconds: f.histogram("inter_token_seconds", "Mean time between the frames of a stream.", between),
		Tokens:            f.counters("tokens_total", "Tokens that were used.", "type"),
		Quota:             f.counter("cost_units_total", "Quota units that were settled; 500000 are 1 USD."),
		RateLimited:       f.counters("rate_limit_rejections_total", "Requests refused by a limit.", "limit"),
		CacheHits:         f.counters("cache_hits_total", "Look-ups answered from memory.", "cache"),
		CacheMisses:       f.counters("cache_misses_total", "Look-ups that went to the database.", "cache"),
		UpstreamErrors:    f.counters("upstream_errors_total", "Failed attempts at an upstream.", "provider", "reason"),
		BreakerOpen:       f.gauges("breaker_open", "1 for a channel that takes no traffic because it failed.", "channel"),
		ConfigRevision:    f.gauge("config_revision", "Revision of the routing state in force."),
		SyncLagSeconds:    f.gauge("sync_lag_seconds", "Time since the last successful look at the database."),
		LedgerPending:     f.gauge("ledger_pending", "Settlements that wait for the database."),
		LedgerOpen:        f.gauge("ledger_open", "Open reservations."),
		LogQueue:          f.gauge("log_queue", "Usage log rows that wait to be written."),
		LogDropped:        f.counter("log_dropped_total", "Usage log rows that were lost because the queue was full."),
		DBErrors:          f.counters("db_errors_total", "Failed database operations.", "op"),
		BuildInfo:         f.gauges("build_info", "1, with the version as its label.", "version"),
		StreamsActive:     f.gauge("streams_active", "Streams that are running."),
		InFlight:          f.gauge("in_flight_requests", "Relayed requests that are running."),
	}
}

type factory struct{ reg prometheus.Registerer }

func register[C prometheus.Collector](f factory, c C) C {
	f.reg.MustRegister(c)
	return c
}

func (f factory) counter(name, help string) prometheus.Counter {
	return register(f, prometheus.NewCounter(prometheus.CounterOpts{Namespace: Namespace, Name: name, Help: help}))
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return register(f, prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: Namespace, Name: name, Help: help}, labels))
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	return register(f, prometheus.NewGauge(prometheus.GaugeOpts{Namespace: Namespace, Name: name, Help: help}))
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return register(f, prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: Namespace, Name: name, Help: help}, labels))
}

func (f factory) histogram(name, help string, buckets []float64) prometheus.Histogram {
	return register(f, prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: Namespace, Name: name, Help: help, Buckets: buckets}))
}

func (f factory) histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return register(f, prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: Namespace, Name: name, Help: help, Buckets: buckets}, labels))
}
