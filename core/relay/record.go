package relay

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

// otherModel is the label of models that the snapshot does not know: clients
// must not be able to make up time series.
const otherModel = "other"

// meters are the metrics whose labels are known beforehand, looked up once.
type meters struct {
	seconds                              map[llm.Operation]prometheus.Observer
	input, cacheRead, cacheWrite, output prometheus.Counter
}

func newMeters(m *telemetry.Metrics) meters {
	out := meters{
		seconds:    map[llm.Operation]prometheus.Observer{},
		input:      m.Tokens.WithLabelValues("input"),
		cacheRead:  m.Tokens.WithLabelValues("cache_read"),
		cacheWrite: m.Tokens.WithLabelValues("cache_write"),
		output:     m.Tokens.WithLabelValues("output"),
	}
	for _, e := range endpoints {
		for _, op := range e.ops {
			out.seconds[op] = m.RequestSeconds.WithLabelValues(string(op))
		}
	}
	return out
}

// record writes the metrics and the one log line of a finished exchange.
func (x *exchange) record() {
	m := x.rl.o.Metrics
	m.InFlight.Dec()
	now := x.rl.o.Now()
	took := now.Sub(x.start)
	if x.status == 0 {
		x.status = http.StatusOK
	}
	model, provider := otherModel, ""
	if x.row != nil {
		provider = x.row.Name
	}
	if x.req != nil && x.snap != nil && x.snap.HasModel(x.req.Model) {
		model = x.req.Model
	}
	m.Requests.WithLabelValues(string(x.op), model, provider, strconv.Itoa(x.status)).Inc()
	seconds := x.rl.meters.seconds[x.op]
	if seconds == nil {
		seconds = m.RequestSeconds.WithLabelValues(string(x.op))
	}
	seconds.Observe(took.Seconds())
	switch over := took - x.waited; {
	case x.streamed:
		m.OverheadSeconds.Observe(x.before.Seconds())
	case over >= 0:
		m.OverheadSeconds.Observe(over.Seconds())
	}
	if x.firstByte > 0 {
		m.FirstTokenSeconds.WithLabelValues(provider).Observe(x.firstByte.Seconds())
		if x.streamed && x.frames > 1 {
			m.InterTokenSeconds.Observe((took - x.firstByte).Seconds() / float64(x.frames-1))
		}
	}
	if x.booked {
		x.countTokens()
	}
	x.log(now, took, model)
}

func (x *exchange) countTokens() {
	t, u := &x.rl.meters, &x.usage
	add := func(c prometheus.Counter, n int64) {
		if n > 0 {
			c.Add(float64(n))
		}
	}
	add(t.input, u.Input+u.ImageInput+u.AudioInput)
	add(t.cacheRead, u.CacheRead)
	add(t.cacheWrite, u.CacheWrite+u.CacheWrite1h)
	add(t.output, u.Completion())
	add(x.rl.o.Metrics.Quota, x.charge.Quota)
}

// countUpstream counts a failure that is upstream's.
func (x *exchange) countUpstream(f *failure) {
	if f.reason != "" && x.row != nil {
		x.rl.o.Metrics.UpstreamErrors.WithLabelValues(x.row.Name, f.reason).Inc()
	}
}

func (rl *Relay) countBreaker(channel int64, open bool) {
	id := strconv.FormatInt(channel, 10)
	if open {
		rl.o.Metrics.BreakerOpen.WithLabelValues(id).Set(1)
		rl.o.Logger.Warn("relay: breaker open, the channel is left out for a while", "channel", channel)
		return
	}
	rl.o.Metrics.BreakerOpen.DeleteLabelValues(id)
	rl.o.Logger.Info("relay: breaker closed", "channel", channel)
}

// level is how much an exchange's end is worth a line. Successes have their row in
// the usage log and their metrics.
func (x *exchange) level() slog.Level {
	switch {
	case x.end == endClientGone:
		return slog.LevelInfo
	case x.err == nil:
		return slog.LevelDebug
	case x.err.Code == core.CodeModelNotFound, x.end == endRefused && x.status < 500:
		return slog.LevelInfo
	case x.status >= 400 && x.status < 500 && x.status != http.StatusTooManyRequests:
		return slog.LevelInfo // upstream's word on the client's request
	}
	return slog.LevelWarn
}

// log writes the line of a finished exchange: never a body, a key or a message
// of the prompt. Whole milliseconds and no source position.
func (x *exchange) log(now time.Time, took time.Duration, model string) {
	ctx, level := x.r.Context(), x.level()
	if !x.rl.o.Logger.Enabled(ctx, level) {
		return
	}
	rec := slog.NewRecord(now, level, "relayed", 0)
	var a [24]slog.Attr
	rec.AddAttrs(x.attrs(a[:0], took, model)...)
	_ = x.rl.o.Logger.Handler().Handle(ctx, rec) // as slog does: a log that cannot be written has nowhere to say so
}

func (x *exchange) attrs(a []slog.Attr, took time.Duration, model string) []slog.Attr {
	a = append(a,
		slog.String("request_id", core.RequestID(x.r.Context())),
		slog.String("op", string(x.op)),
		slog.String("model", model),
		slog.Int("status", x.status),
		slog.Int64("ms", took.Milliseconds()),
	)
	if x.cred.Token != nil {
		a = append(a, slog.Int64("user", x.cred.User.ID), slog.Int64("token", x.cred.Token.ID))
	}
	if x.channel != nil {
		a = append(a, slog.String("group", x.group), slog.Int64("channel", x.channel.ID), slog.Int("attempts", len(x.tried)))
	}
	if x.streamed {
		a = append(a, slog.Bool("stream", true), slog.Int64("frames", x.frames), slog.Int64("first_byte_ms", x.firstByte.Milliseconds()))
	}
	if x.usage.Total() > 0 {
		a = append(a, slog.Int64("input", x.usage.Prompt()), slog.Int64("output", x.usage.Completion()), slog.Int64("quota", x.charge.Quota))
	}
	if x.guessed {
		a = append(a, slog.Bool("estimated", true))
	}
	if x.end != "" && x.end != endDone {
		a = append(a, slog.String("end", x.end))
	}
	if x.err != nil {
		a = append(a, slog.String("code", string(x.err.Code)))
		if x.err.Err != nil {
			a = append(a, slog.String("cause", clip(x.err.Err.Error(), 512)))
		}
	}
	return a
}
