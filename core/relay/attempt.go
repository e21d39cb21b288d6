package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider"
)

// maxErrorBody is how much of an upstream's error is read.
const maxErrorBody = 64 << 10

// attempt sends the request to one channel and, if it answers, gives the answer
// to the client.
func (x *exchange) attempt(c choice) *failure {
	x.channel, x.row, x.group = c.channel, c.row, c.group
	x.tried = append(x.tried, c.channel.ID)
	reported := false
	if c.probing {
		defer func() {
			if !reported {
				x.rl.breakers.cancel(c.channel)
			}
		}()
	}
	sent, out, f := x.edit(c)
	if f != nil {
		return f
	}
	x.sent = sent
	if err := x.reserve(c.group, sent); err != nil {
		if x.left() {
			return x.clientLeft()
		}
		return refuse(err)
	}
	x.res.ChannelID = c.channel.ID
	ctx, cancel := context.WithCancelCause(x.r.Context())
	defer cancel(nil)
	req, f := x.request(ctx, c, sent, out)
	if f != nil {
		return f
	}
	x.dog.clear()
	began := x.rl.o.Now()
	x.dog.phase(began, cancel, x.cfg.Relay.FirstByteTimeout, errFirstByte, x.pingsEarly())
	if len(x.tried) == 1 {
		x.before = began.Sub(x.start)
	}
	x.working = true
	res, err := x.rl.o.Transport.Do(ctx, c.channel, req)
	came := x.rl.o.Now()
	x.waited += came.Sub(began)
	if err != nil {
		if x.left() {
			return x.clientLeft()
		}
		reported, x.working = true, false
		return x.unreached(c, err)
	}
	defer func() { _ = res.Body.Close() }()
	x.dog.phase(came, cancel, x.cfg.Relay.IdleTimeout, errIdle, false)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		reported, x.working = true, false
		return x.refused(c, res)
	}
	x.answered = false
	f = x.answer(cancel, res)
	x.working = f != nil && f.end == endClientGone
	reported = true
	switch {
	case x.answered:
	case f != nil && f.end == endClientGone:
		x.rl.breakers.cancel(c.channel)
	case f != nil && (f.retry || f.end == endCut || f.end == endTimeout):
		x.tripped(c, 0)
	default:
		x.rl.breakers.ok(c.channel)
	}
	return f
}

// good notes that upstream has given something of worth: its channel is alive,
// whatever comes after.
func (x *exchange) good() {
	if !x.answered {
		x.answered = true
		x.rl.breakers.ok(x.channel)
	}
}

// edit makes the body for a channel and the view of what upstream is asked for.
func (x *exchange) edit(c choice) (sent *llm.Request, out []byte, f *failure) {
	rules := &c.channel.Parsed
	x.model = c.channel.UpstreamModel(x.req.Model)
	if rules.PassThrough {
		return x.req, x.req.Body, nil
	}
	e := llm.Edits{
		Model:        x.model,
		IncludeUsage: x.asksUsage(c.row),
		SystemPrompt: rules.SystemPrompt,
		SystemFirst:  rules.SystemFirst,
		Params:       rules.Params,
	}
	if e.Model == x.req.Model && !e.IncludeUsage && e.SystemPrompt == "" && e.Params == nil {
		return x.req, x.req.Body, nil
	}
	out, err := x.codec.Edit(x.req, e)
	if err != nil {
		return nil, nil, x.editFailure(err)
	}
	sent = x.req
	if e.Params != nil {
		if sent, err = x.codec.Reparse(x.req, x.r.Header.Get("Content-Type"), out); err != nil {
			return nil, nil, x.channelFault(core.WrapError(core.CodeChannelConfig, err, "The channel's param_override makes the request unusable."))
		}
	}
	return sent, out, nil
}

// asksUsage reports whether the usage chunk of a stream is to be asked for on
// the gateway's own account.
func (x *exchange) asksUsage(row *provider.Row) bool {
	return x.req.Stream && !x.req.WantUsage && (x.op == llm.OpChat || x.op == llm.OpCompletions) && row.StreamOptions && x.cfg.Relay.ForceStreamOption
}

func (x *exchange) editFailure(err error) *failure {
	var p *llm.ParamError
	if !errors.As(err, &p) {
		var bad *llm.BadRequest
		if errors.As(err, &bad) {
			return refuse(err)
		}
		return x.channelFault(core.WrapError(core.CodeChannelConfig, err, "The channel's overrides cannot be applied to the request."))
	}
	e := &core.Error{Code: core.CodeInvalidRequest, Message: p.Message, Type: p.Type, Status: p.Status, Err: err}
	return &failure{err: e, code: p.Code, retry: !p.SkipRetry && x.snap.Options.RetryStatusCodes.Contains(p.Status), end: endRefused}
}

// channelFault is a fault of the channel's own configuration: another one may do.
func (x *exchange) channelFault(err error) *failure {
	return &failure{err: core.AsError(err), retry: true, end: endFailed, reason: "config"}
}

// request makes the upstream request. A pooled body is held until the transport
// has closed it.
func (x *exchange) request(ctx context.Context, c choice, sent *llm.Request, out []byte) (*http.Request, *failure) {
	req, err := c.row.Request(ctx, c.channel, x.op, x.model, sent.Stream, x.r.URL.RawQuery, out,
		x.r.Header.Get("Content-Type"), x.r.Header, x.codec.ForwardHeaders())
	if err != nil {
		e := core.AsError(err)
		if e.Code == core.CodeInvalidRequest {
			return nil, refuse(e)
		}
		return nil, x.channelFault(e)
	}
	if b := x.body; b.pooled() && len(out) > 0 && len(b.bytes) > 0 && &out[0] == &b.bytes[0] {
		req.Body = b.hold()
		if req.GetBody != nil {
			req.GetBody = func() (io.ReadCloser, error) { return b.hold(), nil }
		}
	}
	return req, nil
}

// hold makes a reader of the whole body that is a holder until it is closed.
func (b *body) hold() io.ReadCloser {
	b.retain()
	return &heldBody{Reader: bytes.NewReader(b.bytes), owner: b}
}

// unreached is an attempt that got no answer.
func (x *exchange) unreached(c choice, err error) *failure {
	f := &failure{retry: true, end: endFailed, reason: "connect"}
	switch why := x.dog.reason(); {
	case errors.Is(why, errTotal), errors.Is(why, errFirstByte):
		f.err = core.WrapError(core.CodeUpstreamTimeout, why, "The upstream did not answer in time.")
		f.end, f.reason = endTimeout, "timeout"
		f.retry = errors.Is(why, errFirstByte)
	default:
		f.err = core.AsError(err)
		if f.err.Code == core.CodeInternal {
			f.err = core.WrapError(core.CodeUpstreamConnect, err, "The upstream could not be reached.")
		}
		if f.err.Code == core.CodeChannelConfig {
			f.reason = "config"
		}
	}
	x.tripped(c, 0)
	return f
}

// tripped notes a failure of the channel itself.
func (x *exchange) tripped(c choice, pause time.Duration) {
	x.rl.breakers.fail(c.channel, &x.cfg.Relay.Breaker, x.rl.o.Now(), pause, func(id int64) bool {
		ch, ok := x.snap.Channels[id]
		return ok && ch.Enabled()
	})
}

// refused is an answer that is an error.
func (x *exchange) refused(c choice, res *http.Response) *failure {
	began := x.rl.o.Now()
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxErrorBody))
	x.waited += x.rl.o.Now().Sub(began)
	if x.left() {
		x.rl.breakers.cancel(c.channel)
		return x.clientLeft()
	}
	after := retryAfter(res.Header, x.rl.o.Now())
	var pause time.Duration
	switch s := res.StatusCode; {
	case s == http.StatusTooManyRequests && after > x.cfg.Relay.RetryMaxWait:
		pause = after
		x.tripped(c, pause)
	case s == http.StatusTooManyRequests:
		x.rl.breakers.cancel(c.channel)
	case s >= 500, s == http.StatusUnauthorized:
		x.tripped(c, 0)
	default:
		x.rl.breakers.ok(c.channel)
	}
	f := x.upstreamError(c.channel, res.StatusCode, text)
	f.reason = "status_" + statusClass(res.StatusCode)
	if after > 0 && (res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == 529) {
		f.retryAfter, f.err.RetryAfter = after, min(after, maxRetryAfter)
	}
	return f
}

func statusClass(status int) string {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusUnauthorized, status == http.StatusForbidden:
		return strconv.Itoa(status)
	case status >= 300 && status < 600:
		return strconv.Itoa(status/100) + "xx"
	}
	return "other"
}

// maxRetryAfter is the longest Retry-After that is passed on.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads when upstream wants to be asked again; 0 = it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if v := h.Get("Retry-After-Ms"); v != "" {
		if ms, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil && ms > 0 && ms < 1e10 {
			return time.Duration(ms * float64(time.Millisecond))
		}
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		if s > 0 && s < 1e7 {
			return time.Duration(s * float64(time.Second))
		}
		return 0
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// answer gives a 2xx answer to the client.
func (x *exchange) answer(cancel context.CancelCauseFunc, res *http.Response) *failure {
	ct := res.Header.Get("Content-Type")
	media := mediaType(ct)
	if f := x.garbage(res, media); f != nil {
		return f
	}
	x.out.answering(res.Header)
	tap := x.codec.NewTap(x.sent)
	x.tap = tap
	framing := x.codec.Framing(x.op, ct)
	x.streamed = framing != llm.FrameNone
	switch {
	case x.streamed:
		return x.stream(cancel, res, tap, framing)
	case strings.HasPrefix(media, "audio/"), strings.HasPrefix(media, "video/"), media == "application/octet-stream":
		return x.binary(res, tap)
	default:
		return x.unary(res, tap, media)
	}
}

// garbage refuses what cannot be an answer of the operation.
func (x *exchange) garbage(res *http.Response, media string) *failure {
	var why string
	switch enc := strings.ToLower(strings.TrimSpace(res.Header.Get("Content-Encoding"))); {
	case enc != "" && enc != "identity":
		// Asked for identity. What is encoded can be neither tapped nor bounded.
		why = "The upstream answered with a content encoding that was not asked for."
	case media == "text/html", media == "application/xhtml+xml":
		why = "The upstream answered with a web page. The channel's base URL may be wrong."
	case res.StatusCode == http.StatusNoContent, res.StatusCode == http.StatusResetContent, res.StatusCode == http.StatusPartialContent:
		why = "The upstream answered without a whole body."
	default:
		return nil
	}
	return &failure{err: core.Errorf(core.CodeUpstreamBody, "%s", why), retry: true, end: endUpstreamError, reason: "body"}
}

// mediaType is the type of a Content-Type without parameters, in lower case.
func mediaType(ct string) string {
	ct, _, _ = strings.Cut(ct, ";")
	return strings.ToLower(strings.TrimSpace(ct))
}
