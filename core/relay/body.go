package relay

import (
	"compress/flate"
	"compress/zlib"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sluice-gateway/sluice/core"
)

const (
	firstRead = 8 << 10 // memory that a body of unknown size begins with
	believed  = 1 << 20 // up to this a Content-Length is believed; beyond, memory grows with what arrives
)

// body is a request body in memory. The transport may go on reading it after
// RoundTrip has returned, so a pooled buffer goes back only when the exchange
// and every attempt have let go of it.
type body struct {
	rl    *Relay
	bytes []byte
	held  int64 // bytes of the budget
	refs  atomic.Int32
}

// pooled reports whether the bytes go back to a pool, and so must be held by
// whoever reads them.
func (b *body) pooled() bool { return cap(b.bytes) >= pooledMin }

// retain adds a holder.
func (b *body) retain() { b.refs.Add(1) }

// release removes a holder; the last one gives memory and budget back.
func (b *body) release() {
	if b.refs.Add(-1) > 0 {
		return
	}
	b.rl.budget.give(b.held)
	b.rl.buffers.put(b.bytes)
	b.bytes = nil
}

// heldBody is an attempt's request body: a holder of the shared bytes until the
// transport closes it.
type heldBody struct {
	io.Reader
	owner *body
	once  sync.Once
}

func (h *heldBody) Close() error {
	h.once.Do(h.owner.release)
	return nil
}

const (
	bodyGrace = 30 * time.Second // in which the first bytes of a body come
	bodyRate  = 16 << 10         // bytes a second that it must keep up after that
)

// pace bounds how slowly a body may come. Its deadline is the connection's: it is
// lifted when the body is whole, since net/http goes on reading there to see the
// client leave.
type pace struct {
	src      io.Reader
	rc       *http.ResponseController
	start    time.Time
	deadline time.Time
	got      int64
	late     bool
}

func newPace(src io.Reader, rc *http.ResponseController, now time.Time) *pace {
	p := &pace{src: src, rc: rc, start: now}
	p.until(now.Add(bodyGrace))
	return p
}

func (p *pace) until(t time.Time) {
	p.deadline = t
	_ = p.rc.SetReadDeadline(t) // a writer without deadlines is a test's
}

// Read implements io.Reader.
func (p *pace) Read(b []byte) (int, error) {
	n, err := p.src.Read(b)
	p.got += int64(n)
	switch {
	case err == nil && time.Until(p.deadline) < bodyGrace/2:
		p.until(p.start.Add(bodyGrace + time.Duration(p.got/bodyRate)*time.Second))
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.late = true
	}
	return n, err
}

// whole lifts the deadline.
func (p *pace) whole() { p.until(time.Time{}) }

// readBody reads a request body once, decoded and bounded. The caller releases it.
func (rl *Relay) readBody(w http.ResponseWriter, r *http.Request, p *pace) (*body, error) {
	limit, total := rl.limits()
	if r.ContentLength > limit {
		closeAfter(w, r)
		return nil, errTooLarge(limit)
	}
	coding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
	src, size, done := io.Reader(p), r.ContentLength, func() {}
	if coding != "" && coding != "identity" {
		var err error
		// What arrives is bounded as well: a stream that decodes to nothing is still read.
		if src, done, err = decoder(coding, io.LimitReader(p, limit+1)); err != nil {
			return nil, bodyError(err, coding, p)
		}
		size = -1
	}
	defer done()
	b := &body{rl: rl}
	b.refs.Store(1)
	err := b.fill(src, size, limit, total)
	if err == nil && size < 0 {
		// A decoder stops at the end of its own data; net/http sees a client leave
		// only once the body was read to its very end.
		_, err = io.Copy(io.Discard, io.LimitReader(p, maxTrailing))
	}
	if err != nil {
		b.release()
		e := bodyError(err, coding, p)
		if p.late || e.Code == core.CodeBodyTooLarge || e.Code == core.CodeOverloaded {
			closeAfter(w, r)
		}
		return nil, e
	}
	p.whole()
	return b, nil
}

// maxTrailing is how much may stand behind an encoded body.
const maxTrailing = 64 << 10

func bodyError(err error, coding string, p *pace) *core.Error {
	var e *core.Error
	switch {
	case p.late:
		e = core.WrapError(core.CodeReadBody, err, "The request body came too slowly.")
		e.Status = http.StatusRequestTimeout
	case errors.As(err, &e):
	case coding != "" && coding != "identity":
		e = core.WrapError(core.CodeReadBody, err, "The request body could not be decoded as %s.", clip(coding, 20))
	default:
		e = core.WrapError(core.CodeReadBody, err, "The request body could not be read to its end.")
	}
	return e
}

func (rl *Relay) limits() (one, all int64) {
	c := rl.o.Config()
	return c.Server.MaxRequestBody, c.Server.BodyBudget
}

// closeAfter ends an HTTP/1 connection whose request body is left unread.
func closeAfter(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
}

func errTooLarge(limit int64) *core.Error {
	return core.Errorf(core.CodeBodyTooLarge, "The request body is larger than %d bytes (server.max_request_body).", limit)
}

// fill reads src to its end.
func (b *body) fill(src io.Reader, size, limit, total int64) error {
	first := int64(firstRead)
	if size >= 0 {
		first = min(size, believed) + 1 // one more, so that the end is seen without growing
	}
	if err := b.grow(first, total); err != nil {
		return err
	}
	for {
		n, err := src.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if int64(len(b.bytes)) > limit {
			return errTooLarge(limit)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(b.bytes) == cap(b.bytes) {
			if err := b.grow(min(2*int64(cap(b.bytes)), limit+1), total); err != nil {
				return err
			}
		}
	}
}

// grow moves the bytes to a buffer of at least n.
func (b *body) grow(n, total int64) error {
	n = bufferSize(n)
	if !b.rl.budget.take(n-b.held, total) {
		e := core.Errorf(core.CodeOverloaded, "The gateway holds too many request bodies at once. Try again shortly.")
		e.RetryAfter = retryBusy
		return e
	}
	b.held = n
	old := b.bytes
	b.bytes = append(b.rl.buffers.get(n), old...)
	b.rl.buffers.put(old)
	return nil
}

// decoder undoes one content coding.
func decoder(coding string, src io.Reader) (io.Reader, func(), error) {
	switch coding {
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(src)
		if err != nil {
			return nil, nil, core.WrapError(core.CodeReadBody, err, "The request body is not gzip, as its Content-Encoding says.")
		}
		return z, func() { _ = z.Close() }, nil
	case "br":
		return brotli.NewReader(src), func() {}, nil
	case "zstd":
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return nil, nil, core.WrapError(core.CodeReadBody, err, "The request body is not zstd, as its Content-Encoding says.")
		}
		return z, z.Close, nil
	case "deflate":
		return inflate(src)
	}
	return nil, nil, core.Errorf(core.CodeUnsupportedMedia, "Content-Encoding %q is not taken. Use gzip, br, zstd, deflate, or none.", clip(coding, 40))
}

// inflate reads deflate in both of its meanings: zlib, as RFC 9110 says, and the
// raw form that some clients send.
func inflate(src io.Reader) (io.Reader, func(), error) {
	head := make([]byte, 2)
	n, err := io.ReadFull(src, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil, core.WrapError(core.CodeReadBody, err, "The request body is not deflate, as its Content-Encoding says.")
	}
	whole := io.MultiReader(strings.NewReader(string(head[:n])), src)
	if n == 2 && head[0]&0x0f == 8 && (int(head[0])<<8|int(head[1]))%31 == 0 {
		z, err := zlib.NewReader(whole)
		if err != nil {
			return nil, nil, core.WrapError(core.CodeReadBody, err, "The request body is not deflate, as its Content-Encoding says.")
		}
		return z, func() { _ = z.Close() }, nil
	}
	z := flate.NewReader(whole)
	return z, func() { _ = z.Close() }, nil
}
