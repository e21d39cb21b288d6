package relay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider"
)

// exchange is one request and its answer. One goroutine owns it; the watchdog
// shares out and its own state.
type exchange struct {
	rl     *Relay
	r      *http.Request
	op     llm.Operation
	format llm.Format
	codec  llm.Codec
	cfg    *config.Config
	snap   *core.Snapshot
	start  time.Time
	out    client
	dog    watchdog

	cred   core.Credential
	pinned int64
	body   *body
	req    *llm.Request // as the client sent it

	// The attempt under way, or the last one.
	channel *core.Channel
	row     *provider.Row
	group   string
	sent    *llm.Request // as upstream was asked
	model   string       // upstream's name of the model
	tried   []int64

	// Money.
	res     *core.Reservation
	resKey  reserveKey
	booked  bool    // settled or refunded
	working bool    // upstream has the request and has not refused it
	tap     llm.Tap // of the last answer
	charge  core.Charge
	usage   llm.Usage
	guessed bool // usage is our estimate

	// What became of it.
	status    int           // given to the client; 499 = the client left
	end       string        // one of the words below
	err       *core.Error   // why it failed
	firstByte time.Duration // from start to the first byte of the answer
	waited    time.Duration // for upstream: not our overhead
	streamed  bool
	answered  bool          // the attempt's channel has given something of worth
	given     bool          // the client has something of upstream's answer
	frames    int64         // with a payload
	before    time.Duration // from start to the first call of upstream
}

// How an exchange ended: EndReason of its outcome.
const (
	endDone          = "done"
	endClientGone    = "client_gone"
	endCut           = "upstream_cut"
	endUpstreamError = "upstream_error"
	endTimeout       = "timeout"
	endRefused       = "refused"
	endFailed        = "failed"
	endPanic         = "panic"
)

// statusClientGone stands in logs and metrics for an answer that nobody took.
const statusClientGone = 499

// failure is an error of an attempt and what to do about it.
type failure struct {
	err        *core.Error
	code       string        // upstream's own code, passed on in place of err.Code
	retry      bool          // another channel may do better
	retryAfter time.Duration // upstream asked for this much patience
	end        string
	reason     string // label of the upstream error metric; "" = not upstream's fault
	abort      bool   // the answer was begun and nothing can be said in it
	silent     bool   // the client was told by upstream's own frame
}

func (f *failure) Error() string { return f.err.Error() }

func refuse(err error) *failure {
	var bad *llm.BadRequest
	if errors.As(err, &bad) {
		return &failure{err: &core.Error{Code: core.CodeInvalidRequest, Message: bad.Message, Param: bad.Param}, end: endRefused}
	}
	return &failure{err: core.AsError(err), end: endRefused}
}

// Serve answers one relayed request, errors included. pathModel is the model of
// the URL where the format puts it there, else "".
func (rl *Relay) Serve(w http.ResponseWriter, r *http.Request, op llm.Operation, pathModel string) {
	x := &exchange{rl: rl, r: r, op: op, format: op.Format(), cfg: rl.o.Config(), snap: rl.o.Snapshot(), start: rl.o.Now()}
	x.codec = rl.o.Codecs[x.format]
	x.out = client{w: w, rc: http.NewResponseController(w), h2: r.ProtoMajor == 2, max: x.cfg.Relay.WriteTimeout}
	x.dog.x = x
	rl.o.Metrics.InFlight.Inc()
	defer x.finish()
	if f := x.run(pathModel); f != nil {
		x.fail(f)
	}
}

// run does the exchange. A failure is yet to be told to the client.
func (x *exchange) run(pathModel string) *failure {
	var err error
	// Also for a body that is refused unread: net/http reads its rest.
	pace := newPace(x.r.Body, x.out.rc, x.start)
	if x.snap == nil {
		return refuse(errStarting())
	}
	if x.cred, x.pinned, err = x.rl.Authenticate(x.r); err != nil {
		return refuse(err)
	}
	if err := checkGroup(x.snap, x.cred); err != nil {
		return refuse(err)
	}
	if x.body, err = x.rl.readBody(x.out.w, x.r, pace); err != nil {
		return refuse(err)
	}
	if x.req, err = x.codec.Parse(x.op, x.r.Header.Get("Content-Type"), pathModel, x.body.bytes); err != nil {
		return refuse(err)
	}
	if !allowsModel(x.cred.Token, x.req.Model) {
		return refuse(core.Errorf(core.CodeModelForbidden, "This API key may not use the model %q.", clip(x.req.Model, 128)))
	}
	return x.attempts()
}

// errStarting is told before the first snapshot.
func errStarting() *core.Error {
	return &core.Error{Code: core.CodeStoreUnavailable, Message: "The node has no routing state yet. Try again shortly.", RetryAfter: retryBusy}
}

// attempts tries channels until one answers or none is left to try.
func (x *exchange) attempts() *failure {
	retries := x.snap.Options.RetryTimes
	p := picker{x: x, groups: groupsOf(x.snap, x.cred, x.req.Model)}
	var last *failure
	for n := 0; ; n++ {
		c, ok, err := p.next(retries)
		if !ok {
			if last != nil {
				return last
			}
			return refuse(err)
		}
		if n > 0 {
			x.dog.rest()
			if sleep(x.r.Context(), max(c.wait, x.rl.backoff(n))) != nil {
				return x.clientLeft()
			}
		}
		f := x.attempt(c)
		if f == nil {
			return nil
		}
		x.countUpstream(f)
		if !f.retry || x.given || x.pinned != 0 || x.expired() {
			return f
		}
		p.exclude(c, f.retryAfter, x.cfg.Relay.RetryMaxWait)
		last = f
	}
}

// expired reports whether relay.timeout is over.
func (x *exchange) expired() bool {
	t := x.cfg.Relay.Timeout
	return t > 0 && x.rl.o.Now().Sub(x.start) >= t
}

func (x *exchange) clientLeft() *failure {
	return &failure{err: core.WrapError(core.CodeInvalidRequest, context.Cause(x.r.Context()), "the client left"), end: endClientGone, abort: true}
}

// left reports whether the client is gone.
func (x *exchange) left() bool { return x.r.Context().Err() != nil }

// pingsEarly reports whether pings may be sent before upstream has answered.
func (x *exchange) pingsEarly() bool {
	return x.cfg.Relay.PingBeforeStatus && x.req != nil && x.expectsSSE()
}

// expectsSSE reports whether the answer should be an event stream.
func (x *exchange) expectsSSE() bool {
	if !x.req.Stream {
		return false
	}
	return x.format != llm.Gemini || x.r.URL.Query().Get("alt") == "sse"
}

// finish ends every exchange, panics included: nothing stays reserved, held or
// running.
func (x *exchange) finish() {
	fault := recover()
	abort := fault != nil
	if err, ok := fault.(error); abort && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
		x.rl.o.Logger.Error("relay: panic", "request_id", core.RequestID(x.r.Context()), "panic", fmt.Sprint(fault), "stack", string(debug.Stack()))
		f := &failure{err: core.WrapError(core.CodeInternal, fmt.Errorf("panic: %v", fault), "internal error"), end: endPanic}
		x.settleGiven()
		abort = x.tell(f)
	}
	x.refund() // where nothing settled or refunded it before
	x.dog.stop()
	if x.body != nil {
		x.body.release()
	}
	x.out.unlimit()
	x.record()
	if abort {
		panic(http.ErrAbortHandler)
	}
}
