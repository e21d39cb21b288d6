package relay

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

const (
	maxUnary   = 32 << 20 // of an answer that is held whole; a larger one is passed on as it comes
	writeSlice = 64 << 10 // that one write deadline is for
	copyBuffer = 32 << 10
)

// unary relays an answer of one piece: read whole, billed, then written. Errors
// of the reading can so still become an error with a status, or another attempt.
func (x *exchange) unary(res *http.Response, tap llm.Tap, media string) *failure {
	if x.out.committed {
		return &failure{err: core.Errorf(core.CodeUpstreamBody, "The upstream did not answer with a stream."), retry: true, end: endUpstreamError, reason: "body"}
	}
	h := held{x: x}
	defer h.release()
	began := x.rl.o.Now()
	whole, err := h.read(res)
	x.waited += x.rl.o.Now().Sub(began)
	if err != nil {
		return x.readFailure(err)
	}
	if !whole {
		return x.through(res, &passing{x: x, tap: tap, json: true}, h.buf)
	}
	if f := x.notJSON(media, h.buf); f != nil {
		return f
	}
	tap.Body(res.Header.Get("Content-Type"), h.buf)
	u, guessed := final(tap)
	if f := x.unfinished(tap, h.buf); f != nil {
		return f
	}
	x.good()
	x.status = res.StatusCode
	x.settle(u, guessed, endDone)
	return x.writeWhole(res.StatusCode, h.buf)
}

// readFailure is the failure of an answer that could not be read to its end.
// It is not sent to another channel: upstream has done its work and may charge it.
func (x *exchange) readFailure(err error) *failure {
	if x.left() {
		return x.clientLeft()
	}
	if why := x.dog.reason(); why != nil {
		return &failure{err: core.WrapError(core.CodeUpstreamTimeout, why, "The upstream fell silent in the middle of its answer."), end: endTimeout, reason: "timeout"}
	}
	return &failure{err: core.WrapError(core.CodeUpstreamBody, err, "The upstream ended its answer before it was complete."), end: endCut, reason: "cut"}
}

// notJSON refuses an answer that should be JSON and does not look like it.
func (x *exchange) notJSON(media string, body []byte) *failure {
	isJSON := media == "" || media == "application/json" || strings.HasSuffix(media, "+json")
	if !isJSON && (x.op == llm.OpTranscriptions || x.op == llm.OpTranslations) {
		return nil // text, srt, vtt
	}
	if t := bytes.TrimLeft(body, " \t\r\n"); len(t) > 0 && (t[0] == '{' || t[0] == '[') {
		return nil
	}
	return badJSON()
}

func badJSON() *failure {
	return &failure{err: core.Errorf(core.CodeUpstreamBody, "The upstream's answer is not JSON."), end: endUpstreamError, reason: "body"}
}

// unfinished judges an answer in which the tap found no end: an error behind
// status 200, or JSON that does not parse. A failed response of the Responses API
// is an answer as any other.
func (x *exchange) unfinished(tap llm.Tap, body []byte) *failure {
	if tap.Complete() || x.format == llm.Responses && gjson.GetBytes(body, "object").Str == "response" {
		return nil
	}
	if _, _, _, ok := x.codec.ParseError(body); !ok {
		return badJSON()
	}
	f := x.upstreamError(x.channel, http.StatusBadGateway, body)
	f.reason = "body"
	return f
}

// writeWhole gives an answer to the client in slices that each have a deadline.
func (x *exchange) writeWhole(status int, body []byte) *failure {
	x.out.mu.Lock()
	defer x.out.mu.Unlock()
	x.given = true
	x.out.w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.out.commit(status, llm.FrameNone)
	if len(body) <= copyBuffer {
		// net/http's own buffer and the socket's take it.
		if _, err := x.out.w.Write(body); err != nil {
			x.out.broken = err
		}
		return nil
	}
	for len(body) > 0 {
		n := min(len(body), writeSlice)
		if err := x.out.write(body[:n], x.rl.o.Now()); err != nil {
			x.end, x.status = endClientGone, statusClientGone
			return nil
		}
		body = body[n:]
	}
	return nil
}

// held is an answer in memory.
type held struct {
	x     *exchange
	buf   []byte
	taken int64
}

// read reads the body to its end, or up to what may be held: then whole is false.
func (h *held) read(res *http.Response) (whole bool, err error) {
	first := int64(4 << 10)
	if n := res.ContentLength; n >= 0 {
		first = min(n, believed) + 1
	}
	if !h.grow(first) {
		h.buf = make([]byte, 0, 512)
	}
	for {
		n, err := res.Body.Read(h.buf[len(h.buf):cap(h.buf)])
		h.buf = h.buf[:len(h.buf)+n]
		if err == nil && n > 0 && len(h.buf) == cap(h.buf) {
			h.x.dog.touch(h.x.rl.o.Now())
			if len(h.buf) >= maxUnary || !h.grow(min(2*int64(cap(h.buf)), maxUnary)) {
				return false, nil
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// grow makes place. Beyond what a request may hold anyway it borrows from the
// budget; where that is used up the answer is passed on as it comes.
func (h *held) grow(n int64) bool {
	n = bufferSize(n)
	if n > steadyBuffer && !h.x.rl.budget.take(n-h.taken, h.x.cfg.Server.BodyBudget) {
		return false
	}
	if n > steadyBuffer {
		h.taken = n
	}
	old := h.buf
	h.buf = append(h.x.rl.buffers.get(n), old...)
	h.x.rl.buffers.put(old)
	return true
}

func (h *held) release() {
	h.x.rl.budget.give(h.taken)
	h.x.rl.buffers.put(h.buf)
	h.buf = nil
}

// binary relays bytes of no structure, such as speech.
func (x *exchange) binary(res *http.Response, tap llm.Tap) *failure {
	if x.out.committed {
		return &failure{err: core.Errorf(core.CodeUpstreamBody, "The upstream did not answer with a stream."), retry: true, end: endUpstreamError, reason: "body"}
	}
	return x.through(res, &passing{x: x, tap: tap}, nil)
}

// through passes an answer on as it comes. What it cost is an estimate, booked
// before its last byte is out: before the last read's bytes where the length is
// known, else before the end of the body is marked.
func (x *exchange) through(res *http.Response, p *passing, head []byte) *failure {
	buf := x.rl.buffers.get(copyBuffer)
	defer func() { x.rl.buffers.put(buf) }()
	got := int64(0)
	next := head
	for {
		var err error
		if len(next) == 0 {
			var n int
			n, err = res.Body.Read(buf[:copyBuffer])
			next = buf[:n]
			x.dog.touch(x.rl.o.Now())
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return x.throughBroken(p, x.readFailure(err))
		}
		got += int64(len(next))
		p.note(next)
		if got > x.cfg.Relay.MaxLine && res.ContentLength < 0 {
			return x.throughBroken(p, &failure{err: core.Errorf(core.CodeUpstreamBody, "The upstream's answer does not end."), end: endUpstreamError, reason: "body"})
		}
		last := err != nil || got == res.ContentLength
		if last {
			x.status = res.StatusCode
			u, guessed := p.usage(true)
			x.settle(u, guessed, endDone)
		}
		if f := x.pass(res, next); f != nil {
			return x.throughBroken(p, f)
		}
		next = nil
		if last {
			return nil
		}
	}
}

func (x *exchange) pass(res *http.Response, b []byte) *failure {
	if len(b) == 0 && x.given {
		return nil
	}
	now := x.rl.o.Now()
	x.out.mu.Lock()
	defer x.out.mu.Unlock()
	if !x.out.committed && res.ContentLength >= 0 {
		x.out.w.Header().Set("Content-Length", strconv.FormatInt(res.ContentLength, 10))
	}
	x.out.commit(res.StatusCode, llm.FrameNone)
	x.good()
	x.given, x.status = true, res.StatusCode
	if x.firstByte == 0 {
		x.firstByte = now.Sub(x.start)
	}
	if len(b) > 0 && x.out.write(b, now) != nil {
		return x.clientLeft()
	}
	return nil
}

// throughBroken bills what was passed on. There is no place for an error in it.
func (x *exchange) throughBroken(p *passing, f *failure) *failure {
	if x.given {
		f.abort = true
		x.end, x.err = f.end, f.err
		if f.end == endClientGone {
			x.status = statusClientGone
		}
		u, _ := p.usage(false)
		x.settle(u, true, f.end)
	}
	return f
}

// passing is what is known of an answer that is passed on without being held:
// its length, and its end, where JSON answers have their usage.
type passing struct {
	x    *exchange
	tap  llm.Tap
	json bool
	got  int64
	end  []byte
}

// keptEnd is how much of its end is kept.
const keptEnd = 16 << 10

func (p *passing) note(b []byte) {
	if !p.json {
		return
	}
	p.got += int64(len(b))
	if len(b) >= keptEnd {
		p.end, b = p.end[:0], b[len(b)-keptEnd:]
	}
	if over := len(p.end) + len(b) - keptEnd; over > 0 {
		p.end = append(p.end[:0], p.end[over:]...)
	}
	p.end = append(p.end, b...)
}

// usage is what upstream reported at the end of a whole answer. Without that, the
// output is as much as passed, but no more than was reserved for it.
func (p *passing) usage(whole bool) (u llm.Usage, guessed bool) {
	if !p.json {
		return p.tap.Estimate(), true
	}
	if whole {
		// A quote inside a text has a backslash before it, so this is a key.
		for _, key := range [...]string{"usage", "usageMetadata"} {
			i := bytes.LastIndex(p.end, []byte(`"`+key+`"`))
			if i < 0 {
				continue
			}
			r := gjson.Get("{"+string(p.end[i:]), key)
			if !r.IsObject() || !gjson.Valid(r.Raw) {
				continue
			}
			p.tap.Body("application/json", []byte(`{"`+key+`":`+r.Raw+`}`))
			if u, ok := p.tap.Usage(); ok {
				return u, false
			}
		}
	}
	u = p.tap.Estimate()
	u.Output = max(u.Output, min(p.got*2/7, p.x.bound(p.x.sent)))
	return u, true
}
