package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// Client asks upstreams on the operator's behalf: which models they have, and
// whether they answer. It bills nothing.
type Client struct {
	Catalogue *Catalogue
	Transport *Transport
	Now       func() time.Time
	Timeout   time.Duration // of one question as a whole
}

// NewClient makes a client with the usual bounds.
func NewClient(c *Catalogue, t *Transport) *Client {
	return &Client{Catalogue: c, Transport: t, Now: time.Now, Timeout: 60 * time.Second}
}

const (
	maxListPage  = 8 << 20
	maxListPages = 20
	maxModels    = 20_000
	maxTestBody  = 64 << 20 // an image in base64
)

// Models lists what upstream offers, in its order and without doubles. The
// channel need not be stored.
func (c *Client) Models(ctx context.Context, ch *core.Channel) ([]string, error) {
	row, ok := c.Catalogue.Row(ch.Type)
	if !ok {
		return nil, noRow(ch)
	}
	if row.models == nil {
		return nil, core.Errorf(core.CodeInvalidRequest, "%s has no list of models that could be fetched; enter the names by hand", row.Name)
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	var out []string
	seen := map[string]bool{}
	for query, pages := firstPage(row.models.format), 0; pages < maxListPages; pages++ {
		req, err := row.request(ctx, ch, row.models, http.MethodGet, "", false, query, nil, "", nil, nil)
		if err != nil {
			return nil, err
		}
		body, _, err := c.call(ctx, ch, req, maxListPage)
		if err != nil {
			return nil, err
		}
		names, next, err := readModels(body)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			if n = strings.TrimPrefix(n, "models/"); n != "" && len(n) <= 255 && !seen[n] && checkModel(n) == nil && len(out) < maxModels {
				seen[n] = true
				out = append(out, n)
			}
		}
		if next == "" || len(names) == 0 {
			break
		}
		query = nextPage(row.models.format, next)
	}
	return out, nil
}

func firstPage(f llm.Format) string {
	switch f {
	case llm.Claude:
		return "limit=1000"
	case llm.Gemini:
		return "pageSize=1000"
	}
	return ""
}

func nextPage(f llm.Format, token string) string {
	if f == llm.Gemini {
		return "pageSize=1000&pageToken=" + url.QueryEscape(token)
	}
	return "limit=1000&after_id=" + url.QueryEscape(token)
}

// readModels reads a list in any of the three shapes, and what its next page is
// asked for with.
func readModels(body []byte) (names []string, next string, err error) {
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
		Models []struct {
			Name string `json:"name"`
			ID   string `json:"id"`
		} `json:"models"`
		HasMore       bool   `json:"has_more"`
		LastID        string `json:"last_id"`
		NextPageToken string `json:"nextPageToken"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		var plain []struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(body, &plain) != nil {
			return nil, "", core.WrapError(core.CodeUpstreamBody, err, "the upstream's list of models is not in a known form")
		}
		list.Data = plain
	}
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	for _, m := range list.Models {
		if m.Name == "" {
			m.Name = m.ID
		}
		names = append(names, m.Name)
	}
	next = list.NextPageToken
	if list.HasMore {
		next = list.LastID
	}
	return names, next, nil
}

// TestOperation is the operation by which a model of this provider is tested
// when nobody says otherwise; "" if there is none.
func (r *Row) TestOperation(model string) llm.Operation {
	name := strings.ToLower(model)
	order := []llm.Operation{llm.OpChat, llm.OpMessages, llm.OpGenerate, llm.OpResponses, llm.OpCompletions, llm.OpEmbeddings, llm.OpRerank}
	switch {
	case strings.Contains(name, "rerank"):
		order = append([]llm.Operation{llm.OpRerank}, order...)
	case strings.Contains(name, "embed"), strings.HasPrefix(name, "m3e"), strings.Contains(name, "bge-"):
		order = append([]llm.Operation{llm.OpEmbeddings, llm.OpEmbedContent}, order...)
	}
	for _, op := range order {
		if r.Supports(op) {
			return op
		}
	}
	return ""
}

// Test sends the smallest request of an operation and reads the whole answer.
// model "" is the channel's test model, else its first; op "" is TestOperation's.
func (c *Client) Test(ctx context.Context, ch *core.Channel, model string, op llm.Operation, stream bool) (elapsed time.Duration, err error) {
	row, ok := c.Catalogue.Row(ch.Type)
	if !ok {
		return 0, noRow(ch)
	}
	if model == "" {
		model = ch.TestModel
	}
	if model == "" && len(ch.Models) > 0 {
		model = ch.Models[0]
	}
	if model == "" {
		return 0, core.Errorf(core.CodeInvalidRequest, "channel #%d: there is no model to test with", ch.ID)
	}
	model = ch.UpstreamModel(model)
	if op == "" {
		op = row.TestOperation(model)
	}
	body, needs, query, ok := smallest(op, model, &stream)
	if !ok {
		return 0, core.Errorf(core.CodeInvalidRequest, "channel #%d: %s cannot be tested", ch.ID, op)
	}
	if op == llm.OpGenerate && stream {
		op, query = llm.OpStreamGenerate, "alt=sse"
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	req, err := row.Request(ctx, ch, op, model, stream, query, body, "application/json", nil, nil)
	if err != nil {
		return 0, err
	}
	start := c.Now()
	answer, contentType, err := c.call(ctx, ch, req, maxTestBody)
	elapsed = c.Now().Sub(start)
	if err != nil {
		return elapsed, err
	}
	if stream {
		return elapsed, checkStream(contentType, answer, ch)
	}
	return elapsed, checkAnswer(answer, needs, ch)
}

// smallest is a body that costs next to nothing, and the key that its answer has.
// Operations that do not stream clear stream.
func smallest(op llm.Operation, model string, stream *bool) (body []byte, needs, query string, ok bool) {
	type object map[string]any
	hi := []object{{"role": "user", "content": "hi"}}
	var v object
	streams := false
	switch op {
	case llm.OpChat:
		v, needs, streams = object{"model": model, "messages": hi}, "choices", true
	case llm.OpCompletions:
		v, needs, streams = object{"model": model, "prompt": "hi", "max_tokens": 16}, "choices", true
	case llm.OpResponses:
		v, needs, streams = object{"model": model, "input": "hi"}, "output", true
	case llm.OpMessages:
		v, needs, streams = object{"model": model, "messages": hi, "max_tokens": 16}, "content", true
	case llm.OpGenerate, llm.OpStreamGenerate:
		if op == llm.OpStreamGenerate {
			*stream, query = true, "alt=sse"
		}
		v, needs = object{"contents": []object{{"role": "user", "parts": []object{{"text": "hi"}}}}}, "candidates"
		body, _ = json.Marshal(v) // plain values encode
		return body, needs, query, true
	case llm.OpEmbedContent:
		v, needs = object{"content": object{"parts": []object{{"text": "hi"}}}}, "embedding"
	case llm.OpEmbeddings:
		v, needs = object{"model": model, "input": "hi"}, "data"
	case llm.OpModerations:
		v, needs = object{"model": model, "input": "hi"}, "results"
	case llm.OpRerank:
		v, needs = object{"model": model, "query": "hi", "documents": []string{"hi", "bye"}}, "results"
	case llm.OpImageGenerations:
		v, needs = object{"model": model, "prompt": "a red dot", "n": 1}, "data"
	default:
		return nil, "", "", false
	}
	*stream = *stream && streams
	if *stream {
		v["stream"] = true
	}
	body, _ = json.Marshal(v) // plain values encode
	return body, needs, "", true
}

// call sends and reads a whole answer within limit. Another status than 2xx is
// an error with upstream's own words, without the channel's keys.
func (c *Client) call(ctx context.Context, ch *core.Channel, req *http.Request, limit int64) (body []byte, contentType string, err error) {
	resp, err := c.Transport.Do(ctx, ch, req)
	if err != nil {
		return nil, "", timedOut(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		body, _ = io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // what there is of it
		return nil, "", core.Errorf(core.CodeUpstreamStatus, "the upstream answered %d: %s", resp.StatusCode, words(body, ch))
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, "", timedOut(ctx, err)
	case err != nil:
		return nil, "", core.WrapError(core.CodeUpstreamBody, err, "the upstream's answer broke off")
	case int64(len(body)) > limit:
		return nil, "", core.Errorf(core.CodeUpstreamBody, "the upstream's answer is longer than %d bytes", limit)
	}
	return body, resp.Header.Get("Content-Type"), nil
}

func timedOut(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return core.WrapError(core.CodeUpstreamTimeout, err, "the upstream did not answer in time")
	}
	return err
}

// words is what an upstream said about an error, on one line and clipped.
func words(body []byte, ch *core.Channel) string {
	text := errorMessage(body)
	if text == "" {
		text = string(body)
	}
	text = Scrub(text, ch)
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if r := []rune(text); len(r) > 300 {
		text = string(r[:300]) + "…"
	}
	if text == "" {
		return "no text"
	}
	return text
}

// errorMessage reads the vendors' forms of an error: {"error":{"message"}},
// {"error":"…"}, {"message"}, {"detail"}; "" if there is none.
func errorMessage(body []byte) string {
	var v struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(body, &v) != nil {
		return ""
	}
	var inner struct {
		Message string `json:"message"`
	}
	var text string
	switch {
	case json.Unmarshal(v.Error, &inner) == nil && inner.Message != "":
		return inner.Message
	case json.Unmarshal(v.Error, &text) == nil && text != "":
		return text
	case v.Message != "":
		return v.Message
	case json.Unmarshal(v.Detail, &text) == nil:
		return text
	}
	return ""
}

func checkAnswer(body []byte, needs string, ch *core.Channel) error {
	var v map[string]json.RawMessage
	if err := json.Unmarshal(body, &v); err != nil {
		return core.WrapError(core.CodeUpstreamBody, err, "the upstream's answer is not JSON: %s", words(body, ch))
	}
	if e, ok := v["error"]; ok && !bytes.Equal(bytes.TrimSpace(e), []byte("null")) {
		return core.Errorf(core.CodeUpstreamBody, "the upstream answered with an error: %s", words(body, ch))
	}
	if _, ok := v[needs]; !ok {
		return core.Errorf(core.CodeUpstreamBody, "the upstream's answer has no %q: %s", needs, words(body, ch))
	}
	return nil
}

func checkStream(contentType string, body []byte, ch *core.Channel) error {
	if !strings.HasPrefix(contentType, "text/event-stream") {
		return core.Errorf(core.CodeUpstreamBody, "the upstream was asked for a stream and answered with another type: %s", words(body, ch))
	}
	events := 0
	for line := range bytes.Lines(body) {
		data, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data:"))
		data = bytes.TrimSpace(data)
		if !ok || len(data) == 0 || bytes.Equal(data, []byte("[DONE]")) {
			continue
		}
		var v map[string]json.RawMessage
		if err := json.Unmarshal(data, &v); err != nil {
			return core.WrapError(core.CodeUpstreamBody, err, "the upstream's stream has an event that is not JSON: %s", words(data, ch))
		}
		if e, ok := v["error"]; (ok && !bytes.Equal(bytes.TrimSpace(e), []byte("null"))) || string(v["type"]) == `"error"` {
			return core.Errorf(core.CodeUpstreamBody, "the upstream's stream holds an error: %s", words(data, ch))
		}
		events++
	}
	if events == 0 {
		return core.Errorf(core.CodeUpstreamBody, "the upstream's stream is empty")
	}
	return nil
}

// Scrub takes the channel's keys out of a text that upstream wrote.
func Scrub(text string, ch *core.Channel) string {
	for line := range strings.SplitSeq(ch.Key.Reveal(), "\n") {
		if key := strings.TrimSpace(line); len(key) >= 4 { // shorter ones are words, not secrets
			text = strings.ReplaceAll(text, key, "[redacted]")
		}
	}
	return text
}
