package relay

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/core/llm"
)

// client is the writing side of an exchange. Its lock parts the handler from the
// pings of the watchdog, so that a ping never stands inside a frame.
type client struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	h2  bool
	max time.Duration // of one write

	mu        sync.Mutex
	committed bool        // the status line is out
	upstream  http.Header // of the answer under way, nil before
	framing   llm.Framing // of what was committed
	broken    error       // the client is gone
	deadline  time.Time   // that is set on the connection
	lastWrite time.Time
}

// commit sends status and header. Later calls do nothing.
func (c *client) commit(status int, framing llm.Framing) {
	if c.committed {
		return
	}
	c.committed, c.framing = true, framing
	h := c.w.Header()
	copyHeader(h, c.upstream)
	if framing != llm.FrameNone {
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Accel-Buffering", "no")
	}
	if framing == llm.FrameSSE && h.Get("Content-Type") == "" {
		h.Set("Content-Type", "text/event-stream; charset=utf-8")
	}
	c.w.WriteHeader(status)
}

// answering notes the header of the answer that is to be committed.
func (c *client) answering(h http.Header) {
	c.mu.Lock()
	c.upstream = h
	c.mu.Unlock()
}

// passed are the upstream's headers that reach the client, by the name that they
// get. Everything else stays here: cookies, connection headers, the vendor's
// limits of an account that is not the client's, and what would tell which vendor's
// infrastructure it was.
var passed = [...][2]string{
	{"Content-Type", "Content-Type"},
	{"Content-Disposition", "Content-Disposition"},
	{"Content-Language", "Content-Language"},
	{"Openai-Processing-Ms", "Openai-Processing-Ms"},
	{"Openai-Version", "Openai-Version"},
	{"X-Request-Id", "X-Upstream-Request-Id"},
	{"Request-Id", "X-Upstream-Request-Id"},
}

func copyHeader(to, from http.Header) {
	for i := range passed {
		if v := from[passed[i][0]]; len(v) > 0 && v[0] != "" {
			to[passed[i][1]] = v[:1:1]
		}
	}
}

// write gives b to the client at once. The caller holds the lock. After an error
// the client is gone and nothing more is written.
func (c *client) write(b []byte, now time.Time) error {
	if c.broken != nil {
		return c.broken
	}
	c.limit(now)
	if _, err := c.w.Write(b); err != nil {
		c.broken = err
		return err
	}
	if err := c.rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		c.broken = err
		return err
	}
	if c.h2 {
		// An HTTP/2 stream is reset when its deadline passes, in silence as well.
		c.unlimit()
	}
	c.lastWrite = now
	return nil
}

// limit sets the write deadline. It is moved once a second at most: setting it
// costs more than a small write.
func (c *client) limit(now time.Time) {
	if d := now.Add(c.max); c.deadline.IsZero() || d.Sub(c.deadline) > time.Second {
		if c.rc.SetWriteDeadline(d) == nil {
			c.deadline = d
		}
	}
}

// unlimit takes the deadline away: the connection goes on to serve requests
// that know nothing of it.
func (c *client) unlimit() {
	if !c.deadline.IsZero() {
		_ = c.rc.SetWriteDeadline(time.Time{})
		c.deadline = time.Time{}
	}
}

var ping = []byte(": ping\n\n")

// ping writes a comment if the stream was silent for every. It returns when the
// next one is due; 0 = no more.
func (c *client) ping(now time.Time, every time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil || (c.committed && c.framing != llm.FrameSSE) {
		return 0
	}
	if !c.committed {
		c.commit(http.StatusOK, llm.FrameSSE)
	} else if silent := now.Sub(c.lastWrite); silent < every {
		return every - silent
	}
	_ = c.write(ping, now)
	return every
}
