package web

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// retryStore is what Retry-After says where the cause does not say more.
const retryStore = 2 * time.Second

// envelope is New API's reply. Code and Param are additions that its clients ignore.
type envelope struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Data    any    `json:"data,omitempty"`
	Code    string `json:"code,omitempty"`
	Param   string `json:"param,omitempty"`
}

// okEnvelope always has data, be it null, empty or zero.
type okEnvelope struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	Data    any    `json:"data"`
}

// ok answers success with data.
func (c *call) ok(data any) error {
	return c.json(http.StatusOK, okEnvelope{Success: true, Data: data})
}

// done answers success without data.
func (c *call) done() error { return c.json(http.StatusOK, envelope{Success: true}) }

// message answers success with a text for people.
func (c *call) message(text string) error {
	return c.json(http.StatusOK, envelope{Success: true, Message: text})
}

// json answers a body of its own shape.
func (c *call) json(status int, body any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return core.WrapError(core.CodeInternal, err, "internal error")
	}
	writeJSON(c.w, status, b)
	return nil
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	sendWithin(w, func() {
		w.WriteHeader(status)
		_, _ = w.Write(body) // a client that left is no fault
	})
}

// sendWithin runs send, which gives a whole reply, and sees it off in time: a
// client that does not read would hold its connection for ever.
func sendWithin(w http.ResponseWriter, send func()) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(replyTimeout)) // a writer without deadlines is a test's
	send()
	if control.Flush() == nil {
		_ = control.SetWriteDeadline(time.Time{}) // the connection may serve a stream next
	}
}

// pageBody is New API's list.
type pageBody[V any] struct {
	Page       int              `json:"page"`
	PageSize   int              `json:"page_size"`
	Total      int64            `json:"total"`
	Items      []V              `json:"items"`
	TypeCounts map[string]int64 `json:"type_counts,omitempty"`
}

// newPage makes the list from the window that q asked for.
func newPage[T, V any](q core.PageQuery, p core.Page[T], view func(T) V) pageBody[V] {
	out := pageBody[V]{Page: q.Offset/q.Limit + 1, PageSize: q.Limit, Total: p.Total, Items: make([]V, 0, len(p.Items))}
	for _, item := range p.Items {
		out.Items = append(out.Items, view(item))
	}
	if out.Total < 0 { // not counted: say that there is more where the window is full
		out.Total = int64(q.Offset + len(p.Items))
		if len(p.Items) == q.Limit {
			out.Total++
		}
	}
	return out
}

// replyPage answers a list.
func replyPage[T, V any](c *call, q core.PageQuery, p core.Page[T], view func(T) V) error {
	return c.ok(newPage(q, p, view))
}

// fail answers an error in the envelope.
func (c *call) fail(e *core.Error) {
	row := rowOf(e.Code)
	code := string(e.Code)
	if row.auth != "" {
		code = row.auth
	}
	if c.authCode != "" {
		code = c.authCode
	}
	retryAfter(c.w, e, row.manage)
	b, _ := json.Marshal(envelope{Message: e.Message, Code: code, Param: e.Param})
	writeJSON(c.w, row.manage, b)
}

// failFormat answers an error in a wire format.
func (s *Server) failFormat(w http.ResponseWriter, r *http.Request, format llm.Format, e *core.Error) {
	writeError(w, s.o.Codecs, format, core.RequestID(r.Context()), e)
}

func writeError(w http.ResponseWriter, codecs llm.Codecs, format llm.Format, requestID string, e *core.Error) {
	le := Describe(format, e)
	le.RequestID = requestID
	codec := codecs[format]
	if codec == nil {
		codec = codecs[llm.OpenAI]
	}
	retryAfter(w, e, le.Status)
	writeJSON(w, le.Status, codec.EncodeError(le))
}

// Refuser answers every request with an error in its caller's format: for a node
// that has no Server yet.
func Refuser(codecs llm.Codecs, why func(*http.Request) *core.Error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := requestID(r.Header.Get("X-Request-Id"), time.Now())
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Oneapi-Request-Id", id)
		e := why(r)
		if isManage(r.URL.Path) {
			(&call{w: w, r: r}).fail(e)
			return
		}
		writeError(w, codecs, formatOfPath(r.URL.Path), id, e)
	})
}

// retryAfter sets the header on 429 and 503, and wherever the error says when.
func retryAfter(w http.ResponseWriter, e *core.Error, status int) {
	d := e.RetryAfter
	if d <= 0 && (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		d = retryStore
	}
	if d > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10))
	}
}

// unixSeconds is New API's time; never is what the zero time becomes (0 or -1).
func unixSeconds(t time.Time, never int64) int64 {
	if t.IsZero() {
		return never
	}
	return t.Unix()
}
