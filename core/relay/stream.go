package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

const (
	streamBuffer = 8 << 10                // that a stream begins with
	steadyBuffer = 64 << 10               // most that a stream keeps; a longer frame borrows from server.body_budget
	noteEvery    = time.Second            // between progress notes …
	noteFrames   = 256                    // … or this many frames, which are 1,000 tokens or less
	afterEnd     = 100 * time.Millisecond // that upstream has to close after its last frame
)

// stream is the relaying of a framed answer.
type stream struct {
	x       *exchange
	body    io.Reader
	tap     llm.Tap
	split   llm.Splitter
	framing llm.Framing

	buf      []byte
	pos      int // start of the frame under way
	borrowed int64

	noted       time.Time
	notedFrames int64
}

// step is what a batch of frames led to.
type step int

const (
	goOn step = iota
	finished
	failedInside // upstream's own error event was given to the client
)

// stream relays frame by frame until the answer ends.
func (x *exchange) stream(cancel context.CancelCauseFunc, res *http.Response, tap llm.Tap, framing llm.Framing) *failure {
	s := &stream{x: x, body: res.Body, tap: tap, split: llm.NewSplitter(framing), framing: framing, buf: make([]byte, 0, streamBuffer), noted: x.start}
	if x.out.committed && x.out.framing != framing {
		return &failure{err: core.Errorf(core.CodeUpstreamBody, "The upstream answered in a form that does not fit the stream that was begun."), retry: true, end: endUpstreamError, reason: "body"}
	}
	x.rl.o.Metrics.StreamsActive.Inc()
	defer x.rl.o.Metrics.StreamsActive.Dec()
	defer s.giveBack()
	x.dog.phase(x.rl.o.Now(), cancel, x.cfg.Relay.IdleTimeout, errIdle, framing == llm.FrameSSE)
	f := s.run()
	if f == nil {
		s.drain(cancel)
	}
	return f
}

func (s *stream) run() *failure {
	x := s.x
	for {
		if f := s.room(); f != nil {
			return s.broken(f)
		}
		n, err := s.body.Read(s.buf[len(s.buf):cap(s.buf)])
		now := x.rl.o.Now()
		s.buf = s.buf[:len(s.buf)+n]
		if n > 0 {
			x.dog.touch(now)
			st, f := s.batch(now)
			switch {
			case f != nil:
				return s.broken(f)
			case st == finished:
				return nil
			case st == failedInside:
				return s.broken(&failure{err: core.Errorf(core.CodeUpstreamStatus, "The upstream ended the stream with an error."), end: endUpstreamError, reason: "event", silent: true})
			}
			s.note(now)
		}
		if err != nil {
			return s.ended(err, now)
		}
	}
}

// batch gives the whole frames of the buffer to the client, in one write unless
// one of them is withheld or is the last.
func (s *stream) batch(now time.Time) (step, *failure) {
	x := s.x
	from := s.pos // of what is not written yet
	for {
		size, payload := s.split.Next(s.buf[s.pos:])
		if size == 0 {
			break
		}
		verdict := llm.Pass
		if payload != nil {
			verdict = s.event(payload, now)
			if x.frames == 1 && !isFrame(payload) {
				x.frames = 0
				return goOn, &failure{err: core.Errorf(core.CodeUpstreamBody, "The upstream's stream does not begin with JSON."), retry: true, end: endUpstreamError, reason: "body"}
			}
		}
		end := s.pos + size
		switch {
		case verdict == llm.Withhold:
			if err := s.write(s.buf[from:s.pos], now); err != nil {
				return goOn, s.clientGone()
			}
			from = end
		case verdict == llm.Failed && !x.given && from == s.pos:
			return goOn, s.failedFirst(payload)
		case verdict == llm.Failed:
			if err := s.write(s.buf[from:s.pos], now); err != nil {
				return goOn, s.clientGone()
			}
			// Upstream's own words, but not the key that it may repeat in them.
			if err := s.write([]byte(hideKeys(string(s.buf[s.pos:end]), x.channel.Key.Reveal())), now); err != nil {
				return goOn, s.clientGone()
			}
			return failedInside, nil
		case s.isLast(payload):
			return s.last(from, end, now)
		}
		s.pos = end
	}
	if err := s.write(s.buf[from:s.pos], now); err != nil {
		return goOn, s.clientGone()
	}
	s.compact()
	return goOn, nil
}

// event shows a frame to the tap.
func (s *stream) event(payload []byte, now time.Time) llm.Verdict {
	x := s.x
	x.frames++
	if x.frames == 1 {
		x.firstByte = now.Sub(x.start)
	}
	return s.tap.Event(payload)
}

// isFrame reports whether the first frame of a stream is one of any format. What
// comes later is passed on as it is: it is the client's to judge.
func isFrame(payload []byte) bool {
	return string(payload) == doneWord || gjson.ValidBytes(payload)
}

// doneWord ends OpenAI's streams.
const doneWord = "[DONE]"

// lastFrame judges what is left when an answer ends: a frame whose end mark alone
// is missing is whole, and mark is what to send after it.
func lastFrame(split llm.Splitter, rest []byte) (payload []byte, mark string, whole bool) {
	payload, whole = split.Rest(rest)
	if _, ok := split.(*llm.SSESplitter); !ok {
		return payload, "", whole
	}
	if len(bytes.TrimSpace(rest)) == 0 {
		return nil, "", true
	}
	mark = "\n\n"
	if rest[len(rest)-1] == '\n' {
		mark = "\n"
	}
	if payload == nil {
		return nil, mark, rest[0] == ':'
	}
	return payload, mark, isFrame(payload)
}

// isLast reports whether a frame is the format's own end of a stream, after
// which clients may stop to read. Chat streams go on after their finish reason
// (the usage chunk) and end with [DONE]; Gemini's SSE streams have no mark but
// their end.
func (s *stream) isLast(payload []byte) bool {
	x := s.x
	switch {
	case payload == nil:
		return s.framing == llm.FrameArray // the closing bracket
	case string(payload) == doneWord:
		return true
	case x.format == llm.Gemini, x.op == llm.OpChat, x.op == llm.OpCompletions:
		return false
	}
	return s.tap.Complete()
}

// last settles before the last frame is given out.
func (s *stream) last(from, end int, now time.Time) (step, *failure) {
	x := s.x
	if err := s.write(s.buf[from:s.pos], now); err != nil {
		return goOn, s.clientGone()
	}
	if !s.tap.Complete() {
		return goOn, s.cut(io.ErrUnexpectedEOF)
	}
	u, guessed := final(s.tap)
	x.settle(u, guessed, endDone)
	if err := s.write(s.buf[s.pos:end], x.rl.o.Now()); err != nil {
		// Booked as done: everything was produced and all but its end mark was given.
		x.end = endClientGone
		return goOn, s.clientGone()
	}
	return finished, nil
}

// write gives frames to the client.
func (s *stream) write(b []byte, now time.Time) error {
	if len(b) == 0 {
		return nil
	}
	x := s.x
	x.out.mu.Lock()
	defer x.out.mu.Unlock()
	x.out.commit(http.StatusOK, s.framing)
	if x.frames > 0 {
		x.good()
	}
	x.given = true
	x.status = http.StatusOK
	return x.out.write(b, now)
}

// ended judges the end of upstream's body.
func (s *stream) ended(err error, now time.Time) *failure {
	x := s.x
	if !errors.Is(err, io.EOF) {
		return s.broken(s.cut(err))
	}
	payload, mark, whole := lastFrame(s.split, s.buf[s.pos:])
	if whole && payload != nil {
		switch s.event(payload, now) {
		case llm.Withhold:
			s.pos = len(s.buf)
		case llm.Failed:
			if !x.given {
				return s.broken(s.failedFirst(payload))
			}
		}
	}
	if !whole || !s.tap.Complete() {
		return s.broken(s.cut(io.ErrUnexpectedEOF))
	}
	u, guessed := final(s.tap)
	x.settle(u, guessed, endDone)
	if s.pos < len(s.buf) {
		if err := s.write(append(s.buf[s.pos:], mark...), now); err != nil {
			return s.clientGone()
		}
	}
	return nil
}

// cut is the failure of an answer that ended too early.
func (s *stream) cut(err error) *failure {
	x := s.x
	if x.left() {
		return s.clientGone()
	}
	if why := x.dog.reason(); why != nil {
		return &failure{err: core.WrapError(core.CodeUpstreamTimeout, why, "The upstream fell silent in the middle of its answer."), retry: errors.Is(why, errIdle), end: endTimeout, reason: "timeout"}
	}
	return &failure{err: core.WrapError(core.CodeUpstreamBody, err, "The upstream ended its answer before it was complete."), retry: true, end: endCut, reason: "cut"}
}

// failedFirst is an error event in the place of an answer: nothing was given to
// the client, so it becomes an error with a status.
func (s *stream) failedFirst(payload []byte) *failure {
	x := s.x
	status := http.StatusBadGateway
	typ, code, _, _ := x.codec.ParseError(payload)
	for _, word := range []string{typ, code} {
		switch word {
		case "overloaded_error", "UNAVAILABLE":
			status = http.StatusServiceUnavailable
		case "rate_limit_error", "rate_limit_exceeded", "RESOURCE_EXHAUSTED":
			status = http.StatusTooManyRequests
		case "invalid_request_error", "INVALID_ARGUMENT":
			status = http.StatusBadRequest
		}
	}
	f := x.upstreamError(x.channel, status, payload)
	f.reason = "event"
	return f
}

// clientGone is the failure of a client that left or does not read.
func (s *stream) clientGone() *failure { return s.x.clientLeft() }

// broken bills what an unfinished answer produced before the client is told.
// Where the client has nothing of it, nothing is billed and another channel may
// be tried.
func (s *stream) broken(f *failure) *failure {
	x := s.x
	if x.given && s.x.frames > 0 {
		x.end, x.err = f.end, f.err
		if f.end == endClientGone {
			x.status = statusClientGone
		}
		x.settle(produced(s.tap), true, f.end)
		return f
	}
	x.frames, x.firstByte = 0, 0
	return f
}

// note tells the ledger how far the answer is.
func (s *stream) note(now time.Time) {
	x := s.x
	if now.Sub(s.noted) < noteEvery && x.frames-s.notedFrames < noteFrames {
		return
	}
	s.noted, s.notedFrames = now, x.frames
	if x.res != nil && !x.booked {
		x.rl.o.Ledger.Extend(x.res, produced(s.tap))
	}
}

// compact moves the rest to the start of the buffer and gives a borrowed one back.
func (s *stream) compact() {
	n := len(s.buf) - s.pos
	if s.borrowed > 0 && n <= streamBuffer {
		small := append(make([]byte, 0, streamBuffer), s.buf[s.pos:]...)
		s.giveBack()
		s.buf, s.pos = small, 0
		return
	}
	if s.pos > 0 {
		copy(s.buf, s.buf[s.pos:])
		s.buf, s.pos = s.buf[:n], 0
	}
}

// room makes place for more of a frame.
func (s *stream) room() *failure {
	if len(s.buf) < cap(s.buf) {
		return nil
	}
	x := s.x
	limit := x.cfg.Relay.MaxLine
	have := int64(cap(s.buf))
	if have >= limit {
		return &failure{err: core.Errorf(core.CodeUpstreamBody, "The upstream sent a line of more than %d bytes (relay.max_line).", limit), end: endUpstreamError, reason: "body"}
	}
	want := min(2*have, limit)
	if want > steadyBuffer {
		if !x.rl.budget.take(want-s.borrowed, x.cfg.Server.BodyBudget) {
			e := core.Errorf(core.CodeOverloaded, "The gateway holds too much at once to take a line of this length.")
			e.RetryAfter = retryBusy
			return &failure{err: e, end: endFailed}
		}
		s.borrowed = want
	}
	s.buf = append(make([]byte, 0, want), s.buf...)
	return nil
}

func (s *stream) giveBack() {
	if s.borrowed > 0 {
		s.x.rl.budget.give(s.borrowed)
		s.borrowed = 0
	}
}

// drain reads the end of an answer whose last frame has come, so that the
// connection can serve again. It does not wait long.
func (s *stream) drain(cancel context.CancelCauseFunc) {
	s.x.dog.phase(s.x.rl.o.Now(), cancel, afterEnd, errIdle, false)
	var rest [512]byte
	for range 4 {
		if _, err := s.body.Read(rest[:]); err != nil {
			return
		}
	}
}
