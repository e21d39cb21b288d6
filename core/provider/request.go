package provider

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// prepared is what a channel's texts mean, read once per version of the channel.
type prepared struct {
	id   int64
	err  error // why the channel cannot be used
	base base
	plan map[llm.Format]base // the base URL names a plan
	full *fullTarget
	keys []string
	over overrides

	other string // channel.Other or the row's default

	// what it was made from; it holds for a channel with the same texts only
	row                         *Row
	baseURL, otherText, keyText string
	headers                     map[string]string
}

// maxPrepared bounds the memory of channels that are gone; when it is reached
// everything is read anew.
const maxPrepared = 1 << 15

func (p *prepared) holds(r *Row, ch *core.Channel) bool {
	return p.row == r && p.baseURL == ch.BaseURL && p.otherText == ch.Other && p.keyText == ch.Key.Reveal() &&
		maps.Equal(p.headers, ch.Parsed.Headers)
}

// prepare finds or makes the prepared form of a channel.
func (r *Row) prepare(ch *core.Channel) *prepared {
	if ch.ID == 0 {
		return r.read(ch)
	}
	c := r.cat
	c.mu.RLock()
	p := c.prepared[ch.ID]
	c.mu.RUnlock()
	if p != nil && p.holds(r, ch) {
		return p
	}
	p = r.read(ch)
	c.mu.Lock()
	if len(c.prepared) >= maxPrepared {
		clear(c.prepared)
	}
	c.prepared[ch.ID] = p
	c.mu.Unlock()
	return p
}

func (r *Row) read(ch *core.Channel) *prepared {
	p := &prepared{
		id: ch.ID, row: r, baseURL: ch.BaseURL, otherText: ch.Other, keyText: ch.Key.Reveal(),
		headers: maps.Clone(ch.Parsed.Headers), other: ch.Other,
	}
	if p.other == "" {
		p.other = r.other
	}
	wrong := func(field string, err error) *prepared {
		p.err = core.Errorf(core.CodeChannelConfig, "channel #%d: %s: %s", ch.ID, field, err)
		return p
	}
	if p.other != "" && (p.other != r.other) && r.usesOther() && !plainWord(p.other) {
		p.err = core.Errorf(core.CodeChannelConfig, "channel #%d: other: holds more than letters, digits and ._-", ch.ID)
		return p
	}
	var err error
	text := strings.TrimSpace(ch.BaseURL)
	if text == "" {
		text = r.BaseURL
	}
	switch plan, ok := r.cat.plans[text]; {
	case text == "":
		p.err = core.Errorf(core.CodeChannelConfig, "channel #%d: base_url is empty and %s has no address of its own", ch.ID, r.Name)
		return p
	case r.fullURL:
		if p.base, p.full, err = parseFull(text); err != nil {
			return wrong("base_url", err)
		}
	case ok:
		p.plan = plan
	default:
		if p.base, err = parseBase(text); err != nil {
			return wrong("base_url", err)
		}
	}
	for line := range strings.SplitSeq(ch.Key.Reveal(), "\n") {
		key := strings.TrimSpace(line)
		if key == "" {
			continue
		}
		for i := range len(key) {
			if key[i] < ' ' || key[i] >= 0x7f {
				p.err = core.Errorf(core.CodeChannelKey, "channel #%d: a key has a character that cannot be sent in a header", ch.ID)
				return p
			}
		}
		p.keys = append(p.keys, key)
	}
	if p.over, err = parseOverrides(ch.Parsed.Headers); err != nil {
		return wrong("header_override", err)
	}
	return p
}

func (r *Row) usesOther() bool {
	for _, t := range r.targets {
		if t.path.has('o') || t.suffix.has('o') || t.query.has('o') {
			return true
		}
	}
	return false
}

// key draws one of the channel's keys.
func (p *prepared) key(ch *core.Channel) (string, error) {
	switch n := len(p.keys); {
	case n == 1:
		return p.keys[0], nil
	case n > 1:
		return p.keys[p.row.cat.Pick(n)], nil
	case p.row.keyOptional:
		return "", nil
	}
	return "", noKey(ch)
}

// Request makes the upstream request of one operation. sentModel is upstream's
// name of the model and matters where it stands in the URL. rawQuery is the
// client's; its parameters pass but for key. Of clientHeader only what forward
// names (a trailing * is a prefix) and what the channel's header_override asks
// for passes; see forbidden for what never does.
//
// body is not copied: it must stay unchanged until the body of the request was
// closed by the transport, which may be after the answer came. net/http may send
// it a second time only where nothing of the first attempt was written to a
// connection that had died (GetBody without an idempotency key).
//
// The errors are *core.Error: CodeConvert where the provider lacks the
// operation, CodeChannelConfig and CodeChannelKey where the channel is wrong,
// CodeInvalidRequest for a model name that cannot stand in a URL.
func (r *Row) Request(ctx context.Context, ch *core.Channel, op llm.Operation, sentModel string, stream bool,
	rawQuery string, body []byte, contentType string, clientHeader http.Header, forward []string,
) (*http.Request, error) {
	t, ok := r.targets[op]
	if !ok {
		return nil, core.Errorf(core.CodeConvert, "channels of type %s do not take %s", r.Name, op)
	}
	return r.request(ctx, ch, t, http.MethodPost, sentModel, stream, rawQuery, body, contentType, clientHeader, forward)
}

func (r *Row) request(ctx context.Context, ch *core.Channel, t *target, method, model string, stream bool,
	rawQuery string, body []byte, contentType string, clientHeader http.Header, forward []string,
) (*http.Request, error) {
	p := r.prepare(ch)
	if p.err != nil {
		return nil, p.err
	}
	key, err := p.key(ch)
	if err != nil {
		return nil, err
	}
	u, err := p.url(t, model, rawQuery)
	if err != nil {
		return nil, err
	}
	h := make(http.Header, 8) // up to eight entries cost one allocation
	p.over.copyClient(h, clientHeader, forward)
	for _, d := range t.headers {
		if _, ok := h[d.name]; !ok {
			h[d.name] = []string{d.value}
		}
	}
	vals := make([]string, 0, 6)
	set := func(name, value string) {
		n := len(vals)
		vals = append(vals, value)
		h[name] = vals[n : n+1 : n+1]
	}
	set("Accept-Encoding", "identity")
	if _, ok := h["User-Agent"]; !ok {
		set("User-Agent", r.cat.UserAgent)
	}
	if contentType != "" && validValue(contentType) {
		set("Content-Type", contentType)
	}
	if stream && t.format != llm.Gemini {
		set("Accept", "text/event-stream")
	}
	if key != "" {
		set(t.auth, t.prefix+key)
	}
	if r.organization != "" && ch.Organization != "" && validValue(ch.Organization) {
		set(r.organization, ch.Organization)
	}
	req := (&http.Request{
		Method: method, URL: u, Host: u.Host, Header: h,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	p.over.apply(req, clientHeader, key)
	if method != http.MethodGet {
		req.ContentLength = int64(len(body))
		if len(body) == 0 {
			req.Body = http.NoBody
			return req, nil
		}
		// A type that net/http knows to be in memory: it writes headers and body together.
		req.Body = io.NopCloser(bytes.NewReader(body))
		if h["Idempotency-Key"] == nil && h["X-Idempotency-Key"] == nil {
			req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		}
	}
	return req, nil
}
