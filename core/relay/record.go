package relay

import (
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// otherModel is the label of models that the snapshot does not know: clients
// must not be able to make up time series.
const otherModel = "other"

// record writes the metrics and the one log line of a finished exchange.
func (x *exchange) record() {
	m := x.rl.o.Metrics
	m.InFlight.Dec()
	took := x.rl.o.Now().Sub(x.start)
	if x.status == 0 {
		x.status = http.StatusOK
	}
	endpoint, model, provider := string(x.op), otherModel, ""
	if x.row != nil {
		provider = x.row.Name
	}
	if x.req != nil && (x.channel != nil && x.pinned == 0 || x.snap.HasModel(x.req.Model)) {
		model = x.req.Model
	}
	m.Requests.WithLabelValues(endpoint, model, provider, strconv.Itoa(x.status)).Inc()
	m.RequestSeconds.WithLabelValues(endpoint).Observe(took.Seconds())
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
	if x.booked && x.usage.Total() > 0 {
		x.countTokens()
	}
	x.log(took, model)
}

func (x *exchange) countTokens() {
	m, u := x.rl.o.Metrics, &x.usage
	add := func(kind string, n int64) {
		if n > 0 {
			m.Tokens.WithLabelValues(kind).Add(float64(n))
		}
	}
	add("input", u.Input+u.ImageInput+u.AudioInput)
	add("cache_read", u.CacheRead)
	add("cache_write", u.CacheWrite+u.CacheWrite1h)
	add("output", u.Completion())
	if x.charge.Quota > 0 {
		m.Quota.Add(float64(x.charge.Quota))
	}
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

// log writes the line of a finished exchange: never a body, a key or a message
// of the prompt.
func (x *exchange) log(took time.Duration, model string) {
	ctx := x.r.Context()
	level := slog.LevelInfo
	if x.err != nil && x.status >= 500 {
		level = slog.LevelWarn
	}
	if !x.rl.o.Logger.Enabled(ctx, level) {
		return
	}
	a := make([]slog.Attr, 0, 20)
	a = append(a,
		slog.String("request_id", core.RequestID(ctx)),
		slog.String("op", string(x.op)),
		slog.String("model", model),
		slog.Int("status", x.status),
		slog.Float64("ms", milliseconds(took)),
	)
	if x.cred.Token != nil {
		a = append(a, slog.Int64("user", x.cred.User.ID), slog.Int64("token", x.cred.Token.ID))
	}
	if x.channel != nil {
		a = append(a, slog.Int64("channel", x.channel.ID), slog.String("group", x.group), slog.Int("attempts", len(x.tried)),
			slog.Float64("upstream_ms", milliseconds(x.waited)))
	}
	if x.firstByte > 0 {
		a = append(a, slog.Float64("first_byte_ms", milliseconds(x.firstByte)))
	}
	if x.streamed {
		a = append(a, slog.Bool("stream", true), slog.Int64("frames", x.frames))
	}
	if x.booked && x.err == nil || x.usage.Total() > 0 {
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
	x.rl.o.Logger.LogAttrs(ctx, level, "relayed", a...)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
