package relay

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// retryBusy is what Retry-After says on 429 and 503 where the cause does not say more.
const retryBusy = 2 * time.Second

// upstreamError makes the failure of an upstream's error answer. The channel's
// status_code_mapping rewrites the status, for the client and for the decision to
// retry. Without it, a status that speaks of the gateway's own account (401, 402,
// 403, 407) or of a wrong base URL (3xx) becomes 502: to the client its own key is
// fine, and SDKs take 401 for an end.
func (x *exchange) upstreamError(ch *core.Channel, status int, text []byte) *failure {
	judged, mapped := ch.Parsed.StatusCodes[status]
	if !mapped {
		judged = status
	}
	shown := judged
	ours := false
	if !mapped {
		switch {
		case status == http.StatusUnauthorized, status == http.StatusPaymentRequired, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
			ours, shown = true, http.StatusBadGateway
		case status < 400:
			judged, shown = http.StatusBadGateway, http.StatusBadGateway
		}
	}
	f := &failure{end: endUpstreamError, retry: x.snap.Options.RetryStatusCodes.Contains(judged)}
	e := &core.Error{Code: core.CodeUpstreamStatus, Status: shown}
	typ, code, msg, ok := x.codec.ParseError(text)
	secret := ch.Key.Reveal()
	typ, code = mask(clip(typ, 64), secret), mask(clip(code, 64), secret)
	switch {
	case status < 400:
		e.Message = "The upstream answered with status " + strconv.Itoa(status) + ", which is no answer. The channel's base URL may be wrong."
	case ours:
		e.Message = "The upstream refused the gateway's own account (status " + strconv.Itoa(status) + "). The key of the request is not at fault; tell the operator."
	case ok && msg != "":
		e.Message, e.Type, f.code = mask(msg, secret), typ, code
	default:
		e.Message = "The upstream answered with status " + strconv.Itoa(status) + "."
	}
	e.Err = &statusError{status: status, typ: typ, code: code}
	f.err = e
	return f
}

// statusError is the cause of an upstream error, for the log: no message, since
// that may quote the prompt.
type statusError struct {
	status    int
	typ, code string
}

func (e *statusError) Error() string {
	s := "upstream status " + strconv.Itoa(e.status)
	if e.typ != "" {
		s += ", type " + e.typ
	}
	if e.code != "" {
		s += ", code " + e.code
	}
	return s
}

// fail gives back the money of an exchange that failed and tells the client.
func (x *exchange) fail(f *failure) {
	if x.tell(f) {
		panic(http.ErrAbortHandler)
	}
}

// tell writes the failure to the client in its format. It reports whether the
// connection must be broken, because nothing could be said.
func (x *exchange) tell(f *failure) (abort bool) {
	le := x.describe(f)
	x.err = f.err
	if x.end == "" || x.end == endDone {
		x.end = f.end
	}
	switch {
	case f.end == endClientGone:
		x.status = statusClientGone
	case x.status == 0:
		x.status = le.Status
	}
	if f.end == endClientGone && x.working && x.sent != nil {
		// Upstream has read the prompt and charges for it.
		x.settle(llm.Usage{Input: x.sent.Input}, true, endClientGone)
	}
	x.refund()
	x.out.mu.Lock()
	defer x.out.mu.Unlock()
	switch {
	case f.end == endClientGone || x.out.broken != nil:
		return x.out.committed
	case !x.out.committed:
		x.writeError(le)
		return false
	case f.silent:
		return false
	case f.abort:
		return true
	}
	frame := x.errorFrame(le)
	if frame == nil {
		return true
	}
	return x.out.write(frame, x.rl.o.Now()) != nil
}

// describe puts a failure into the words of the caller's format.
func (x *exchange) describe(f *failure) llm.Error {
	le := x.rl.o.Describe(x.format, f.err)
	le.RequestID = core.RequestID(x.r.Context())
	if f.err.Type != "" {
		le.Type = f.err.Type
	}
	if f.code != "" {
		le.Code = f.code
	}
	if le.RetryAfter <= 0 && (le.Status == http.StatusTooManyRequests || le.Status == http.StatusServiceUnavailable) && f.err.Code != core.CodeModelNotFound {
		le.RetryAfter = retryBusy
	}
	return le
}

// writeError is the whole answer of a failure before the first byte.
func (x *exchange) writeError(le llm.Error) {
	writeError(x.out.w, x.codec, le, shouldRetry(x.err, le.Status))
	x.out.committed = true
}

func writeError(w http.ResponseWriter, codec llm.Codec, le llm.Error, again string) {
	body := codec.EncodeError(le)
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	if le.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((le.RetryAfter+time.Second-1)/time.Second), 10))
		h.Set("Retry-After-Ms", strconv.FormatInt(le.RetryAfter.Milliseconds(), 10))
	}
	if again != "" {
		h.Set("X-Should-Retry", again)
	}
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(errorWrite)) // a writer without deadlines is a test's
	w.WriteHeader(le.Status)
	_, _ = w.Write(body) // a client that left is no fault
	if rc.Flush() == nil {
		_ = rc.SetWriteDeadline(time.Time{}) // the connection goes on to other requests
	}
}

// errorWrite is how long a client may take to read an error.
const errorWrite = 30 * time.Second

// shouldRetry is the hint that OpenAI's and Anthropic's SDKs obey: "false" where
// the status alone would make them try again in vain.
func shouldRetry(e *core.Error, status int) string {
	switch e.Code {
	case core.CodeStoreUnavailable, core.CodeOverloaded, core.CodeUpstreamConnect:
		return "true"
	case core.CodeModelNotFound, core.CodeConvert, core.CodeChannelConfig, core.CodeChannelKey, core.CodeModelPrice:
		if status == http.StatusTooManyRequests || status >= 500 {
			return "false"
		}
	}
	return ""
}

// errorFrame is what ends a stream that was begun; nil = there is no place for
// it. In a JSON array an error would look like one more element before a clean end.
func (x *exchange) errorFrame(le llm.Error) []byte {
	if x.out.framing != llm.FrameSSE {
		return nil
	}
	return x.codec.EncodeStreamError(x.op, le)
}
