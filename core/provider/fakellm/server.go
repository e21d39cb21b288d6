package fakellm

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/tidwall/gjson"
)

// Options are what a server is made with.
type Options struct {
	// Record is how many of the latest requests are kept for Requests; 0 = none.
	Record int
	// Key is the key that every request must show, in any vendor's way; "" = any.
	Key string
	// Fake is a JSON object of knobs below those of the requests.
	Fake string
	// Trust leaves out the check that a body is valid JSON, for benchmarks.
	Trust bool
	// Models are the ids that GET /models lists; nil = a few.
	Models []string
}

// Request is a request that the server received.
type Request struct {
	Method string
	URI    string // path and query as sent
	Host   string
	Header http.Header
	Body   []byte
	At     time.Time
}

// Stats are counts since the start.
type Stats struct {
	Calls     int64
	InFlight  int64
	Cancelled int64 // calls whose client left before the answer was whole
	// LastCancel is when the latest of those was noticed.
	LastCancel time.Time
}

// Server is the fake LLM. It is safe for concurrent use.
type Server struct {
	o       Options
	base    Knobs
	baseErr error

	calls, inFlight, cancelled, lastCancel atomic.Int64

	mu   sync.Mutex
	log  []Request // a ring when full
	next int
	seen map[string]int
}

var _ http.Handler = (*Server)(nil)

// New makes a server. A mistake in Options.Fake is answered to every request.
func New(o Options) *Server {
	s := &Server{o: o, seen: map[string]int{}}
	if s.o.Models == nil {
		s.o.Models = []string{"fake-chat", "fake-embedding", "fake-image"}
	}
	s.baseErr = s.base.merge(o.Fake)
	return s
}

// Requests are the latest requests, oldest first.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, 0, len(s.log))
	out = append(out, s.log[s.next:]...)
	return append(out, s.log[:s.next]...)
}

// Reset forgets the requests and what the knob times has counted.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log, s.next = nil, 0
	clear(s.seen)
}

// Stats are the counts.
func (s *Server) Stats() Stats {
	st := Stats{Calls: s.calls.Load(), InFlight: s.inFlight.Load(), Cancelled: s.cancelled.Load()}
	if n := s.lastCancel.Load(); n != 0 {
		st.LastCancel = time.Unix(0, n)
	}
	return st
}

func (s *Server) record(r *http.Request, body []byte) {
	if s.o.Record <= 0 {
		return
	}
	q := Request{Method: r.Method, URI: r.RequestURI, Host: r.Host, Header: r.Header.Clone(), Body: body, At: time.Now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) < s.o.Record {
		s.log = append(s.log, q)
		return
	}
	s.log[s.next] = q
	s.next = (s.next + 1) % len(s.log)
}

// call is one request on its way.
type call struct {
	s    *Server
	w    http.ResponseWriter
	r    *http.Request
	ctx  context.Context
	k    *Knobs
	body string // the whole body
	f    fields
	gone bool
	err  errorShape
}

// maxBody bounds what one request may hold.
const maxBody = 256 << 20

var errAbort = http.ErrAbortHandler

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.calls.Add(1)
	s.inFlight.Add(1)
	k := s.base
	c := &call{s: s, w: w, r: r, ctx: r.Context(), k: &k}
	defer func() {
		if c.gone || c.ctx.Err() != nil {
			s.lastCancel.Store(time.Now().UnixNano())
			s.cancelled.Add(1)
		}
		s.inFlight.Add(-1)
	}()
	body, err := readBody(r)
	s.record(r, body)
	handle, shape := route(r)
	c.err = shape
	if err != nil {
		c.fail(http.StatusBadRequest, "cannot read the body: "+err.Error())
		return
	}
	if handle == nil {
		c.fail(http.StatusNotFound, "no such route: "+r.Method+" "+r.URL.Path)
		return
	}
	if s.o.Key != "" && shownKey(r) != s.o.Key {
		c.fail(http.StatusUnauthorized, "Incorrect API key provided.")
		return
	}
	// The bytes are never written again, so the string may share them.
	c.body = unsafe.String(unsafe.SliceData(body), len(body))
	if err := c.read(); err != nil {
		c.fail(http.StatusBadRequest, err.Error())
		return
	}
	if c.misbehave() {
		return
	}
	handle(c)
}

func readBody(r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= maxBody {
		b := make([]byte, n)
		_, err := io.ReadFull(r.Body, b)
		return b, err
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err == nil && len(b) > maxBody {
		err = errors.New("too large")
	}
	return b, err
}

func shownKey(r *http.Request) string {
	for _, name := range []string{"X-Api-Key", "X-Goog-Api-Key", "Api-Key"} {
		if v := r.Header.Get(name); v != "" {
			return v
		}
	}
	v := r.Header.Get("Authorization")
	if rest, ok := strings.CutPrefix(v, "Bearer "); ok {
		return rest
	}
	if v != "" {
		return v
	}
	return r.URL.Query().Get("key")
}

// route finds the handler by the end of the path.
func route(r *http.Request) (func(*call), errorShape) {
	p := strings.TrimRight(r.URL.Path, "/")
	if r.Method == http.MethodGet {
		shape := openAIError
		if strings.Contains(p, "/v1beta") {
			shape = geminiError
		} else if r.Header.Get("Anthropic-Version") != "" {
			shape = claudeError
		}
		switch {
		case strings.HasSuffix(p, "/models"):
			return (*call).listModels, shape
		case strings.Contains(p, "/models/"):
			return (*call).oneModel, shape
		}
		return nil, openAIError
	}
	if r.Method != http.MethodPost {
		return nil, openAIError
	}
	last := p[strings.LastIndexByte(p, '/')+1:]
	if i := strings.LastIndexByte(last, ':'); i >= 0 {
		switch last[i+1:] {
		case "generateContent":
			return (*call).generate, geminiError
		case "streamGenerateContent":
			return (*call).streamGenerate, geminiError
		case "embedContent":
			return (*call).embedContent, geminiError
		case "batchEmbedContents":
			return (*call).batchEmbed, geminiError
		case "countTokens":
			return (*call).geminiCount, geminiError
		}
		return nil, geminiError
	}
	for _, e := range posts {
		if strings.HasSuffix(p, e.end) {
			return e.handle, e.shape
		}
	}
	return nil, openAIError
}

var posts = []struct {
	end    string
	handle func(*call)
	shape  errorShape
}{
	{"/chat/completions", (*call).chat, openAIError},
	{"/text/chatcompletion_v2", (*call).chat, openAIError},
	{"/completions", (*call).completions, openAIError},
	{"/embeddings", (*call).embeddings, openAIError},
	{"/moderations", (*call).moderations, openAIError},
	{"/rerank", (*call).rerank, openAIError},
	{"/images/generations", (*call).images, openAIError},
	{"/images/edits", (*call).images, openAIError},
	{"/audio/transcriptions", (*call).transcribe, openAIError},
	{"/audio/translations", (*call).transcribe, openAIError},
	{"/audio/speech", (*call).speech, openAIError},
	{"/responses", (*call).responses, openAIError},
	{"/messages", (*call).messages, claudeError},
	{"/messages/count_tokens", (*call).messagesCount, claudeError},
}

// fields are the parts of a request body that an answer depends on.
type fields struct {
	model                        string
	stream, includeUsage         bool
	limit                        int64 // output bound
	n                            int
	messages, system, input      gjson.Result
	prompt, tools, documents     gjson.Result
	contents, content, requests  gjson.Result
	dimensions                   int64
	base64                       bool
	format                       string // response_format of media routes
	topN                         int
	size                         string
	fileBytes                    int64
	hasFile                      bool
	returnDocuments, documentsOK bool
}

func (c *call) read() error {
	if c.s.baseErr != nil {
		return c.s.baseErr
	}
	kind, params, _ := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	var inBody string
	switch {
	case c.r.Method == http.MethodGet:
	case kind == "multipart/form-data":
		var err error
		if inBody, err = c.readForm(params["boundary"]); err != nil {
			return err
		}
	default:
		doc := gjson.Parse(c.body)
		if !doc.IsObject() || !c.s.o.Trust && !gjson.Valid(c.body) {
			return errors.New("the body is not a JSON object")
		}
		doc.ForEach(func(key, v gjson.Result) bool {
			if key.Str == "fake" {
				inBody = v.Raw
				return true
			}
			c.f.set(key.Str, v)
			return true
		})
	}
	if c.f.n < 1 {
		c.f.n = 1
	}
	if c.f.n > 128 {
		return errors.New("n: more than 128")
	}
	if err := c.k.merge(inBody); err != nil {
		return err
	}
	return c.k.merge(c.r.Header.Get("X-Fake"))
}

func (f *fields) set(key string, v gjson.Result) {
	switch key {
	case "model":
		f.model = v.Str
	case "stream":
		f.stream = v.Bool()
	case "stream_options":
		f.includeUsage = v.Get("include_usage").Bool()
	case "max_tokens", "max_completion_tokens", "max_output_tokens":
		f.limit = v.Int()
	case "generationConfig":
		f.limit = v.Get("maxOutputTokens").Int()
		if n := v.Get("candidateCount").Int(); n > 0 {
			f.n = int(n)
		}
	case "n":
		f.n = int(v.Int())
	case "messages":
		f.messages = v
	case "system", "instructions", "systemInstruction", "system_instruction":
		f.system = v
	case "input":
		f.input = v
	case "prompt", "query":
		f.prompt = v
	case "tools":
		f.tools = v
	case "documents":
		f.documents = v
	case "contents":
		f.contents = v
	case "content":
		f.content = v
	case "requests":
		f.requests = v
	case "dimensions", "outputDimensionality":
		f.dimensions = v.Int()
	case "encoding_format":
		f.base64 = v.Str == "base64"
	case "response_format":
		f.format = v.Str
	case "top_n":
		f.topN = int(v.Int())
	case "size":
		f.size = v.Str
	case "return_documents":
		f.returnDocuments, f.documentsOK = v.Bool(), true
	}
}

func (c *call) readForm(boundary string) (fake string, err error) {
	if boundary == "" {
		return "", errors.New("multipart without a boundary")
	}
	mr := multipart.NewReader(strings.NewReader(c.body), boundary)
	for {
		p, err := mr.NextRawPart()
		if errors.Is(err, io.EOF) {
			return fake, nil
		}
		if err != nil {
			return "", fmt.Errorf("multipart: %w", err)
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return "", fmt.Errorf("multipart: %w", err)
		}
		text := string(data)
		switch name := p.FormName(); {
		case name == "fake":
			fake = text
		case p.FileName() != "" || name == "file" || strings.HasPrefix(name, "image"):
			c.f.fileBytes += int64(len(data))
			c.f.hasFile = true
		case name == "stream":
			c.f.stream = text == "true"
		case name == "n":
			c.f.n, _ = strconv.Atoi(text)
		default:
			quoted, err := json.Marshal(text)
			if err != nil {
				return "", fmt.Errorf("multipart: %w", err)
			}
			c.f.set(name, gjson.ParseBytes(quoted))
		}
	}
}

// pathModel is the model of a Gemini path.
func (c *call) pathModel() string {
	p := c.r.URL.EscapedPath()
	i := strings.LastIndex(p, "/models/")
	if i < 0 {
		return ""
	}
	p = p[i+len("/models/"):]
	if j := strings.LastIndexByte(p, ':'); j >= 0 {
		p = p[:j]
	}
	if plain, err := url.PathUnescape(p); err == nil {
		return plain
	}
	return p
}

// misbehave does what the knobs want in place of an answer; it reports whether
// that was all.
func (c *call) misbehave() bool {
	k := c.k
	if k.FirstDelayMS > 0 && !c.wait(ms(k.FirstDelayMS)) {
		return true
	}
	if k.ID != "" && k.Times > 0 && c.s.count(k.ID) > k.Times {
		k.recover()
	}
	for name, value := range k.Headers {
		c.w.Header().Set(name, value)
	}
	switch {
	case k.Hang:
		<-c.ctx.Done()
		return true
	case k.Close:
		panic(errAbort)
	case k.Redirect != "":
		c.w.Header().Set("Location", k.Redirect)
		status := http.StatusFound
		if k.Status >= 300 && k.Status <= 399 {
			status = k.Status
		}
		c.w.WriteHeader(status)
		return true
	case k.Status != 0 && k.Status != http.StatusOK:
		if k.RetryAfter != "" {
			c.w.Header().Set("Retry-After", k.RetryAfter)
		}
		c.failWith(k.Status, fmt.Sprintf("The fake LLM was asked for status %d.", k.Status))
		return true
	case k.GzipBomb:
		c.gzipBomb()
		return true
	case k.Garbage:
		ct := "application/json"
		text := "<html>this is no answer {\"id\": \x00\xff"
		if c.f.stream {
			ct, text = "text/event-stream", "data: {\"id\":\n\n\x00\xff: garbage\ndata\n\ndata: ]\n\n"
		}
		c.begin(ct)
		c.write([]byte(text))
		return true
	}
	return false
}

func (s *Server) count(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) > 100_000 {
		clear(s.seen)
	}
	s.seen[id]++
	return s.seen[id]
}

func (c *call) gzipBomb() {
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	_, _ = z.Write(bytes.Repeat([]byte{' '}, 1<<20))
	_ = z.Close()
	c.w.Header().Set("Content-Encoding", "gzip")
	c.begin("application/json")
	c.write(bytes.Repeat(member.Bytes(), 64)) // a gzip file may have many members
}

// wait lets time pass; false means that the client left.
func (c *call) wait(d time.Duration) bool {
	if d <= 0 {
		return c.ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.ctx.Done():
		c.gone = true
		return false
	}
}

func (c *call) begin(contentType string) {
	if c.k.ContentType != "" {
		contentType = c.k.ContentType
	}
	h := c.w.Header()
	h["Content-Type"] = []string{contentType}
	if h["X-Request-Id"] == nil {
		h["X-Request-Id"] = requestID
	}
}

var requestID = []string{"req_fake"}

func (c *call) write(b []byte) bool {
	if _, err := c.w.Write(b); err != nil {
		c.gone = true
	}
	return !c.gone
}

// errorShape is how a format writes an error.
type errorShape func(b []byte, status int, typ, message string) []byte

func (c *call) fail(status int, message string) {
	c.begin("application/json")
	c.w.WriteHeader(status)
	c.write(c.err(nil, status, "", message))
}

func (c *call) failWith(status int, message string) {
	ct := "application/json"
	var body []byte
	switch raw := c.k.ErrorBody; {
	case len(raw) == 0:
		body = c.err(nil, status, c.k.ErrorType, message)
	case raw[0] == '"':
		body, ct = []byte(gjson.ParseBytes(raw).Str), "text/plain; charset=utf-8"
	default:
		body = raw
	}
	c.begin(ct)
	c.w.WriteHeader(status)
	c.write(body)
}

// reply sends a whole body.
func (c *call) reply(contentType string, body []byte) {
	if c.k.Endless {
		c.begin(contentType)
		block := bytes.Repeat([]byte("endless "), 1<<10)
		for c.ctx.Err() == nil && c.write(block) {
			c.flush()
		}
		return
	}
	c.begin(contentType)
	c.w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	if c.k.CutAfterChunks != nil {
		c.write(body[:len(body)/2])
		c.flush()
		panic(errAbort)
	}
	c.write(body)
}

func (c *call) flush() {
	if f, ok := c.w.(http.Flusher); ok {
		f.Flush()
	}
}
