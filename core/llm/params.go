package llm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
)

// The bounds of an override.
const (
	maxOperations = 256
	maxPattern    = 1 << 10
	maxIndex      = 10_000 // sjson fills an array up to an index
)

// Params is a channel's param_override, parsed and checked once. It is immutable
// and safe for concurrent use.
//
// Two forms, as New API has them: a flat object whose keys are put into the body
// as they are, and {"operations":[…]} whose operations run in order; flat keys
// beside operations come first. Paths are gjson's, with negative indexes that
// count from the end.
type Params struct {
	flat []member
	ops  []operation
}

type member struct{ key, raw string }

type operation struct {
	Path       string          `json:"path"`
	Mode       string          `json:"mode"`
	Value      json.RawMessage `json:"value"`
	KeepOrigin bool            `json:"keep_origin"`
	From       string          `json:"from"`
	To         string          `json:"to"`
	Conditions json.RawMessage `json:"conditions"`
	Logic      string          `json:"logic"`

	conditions conditions
	text       string // Value as text
	pattern    *regexp.Regexp
	prune      prune
	answer     ParamError
}

// ParamContext is what conditions can see beside the body.
type ParamContext struct{ OriginalModel, UpstreamModel string }

// ParamError is the answer that a param_override's return_error demands.
type ParamError struct {
	Status    int
	Type      string
	Code      string
	Message   string
	SkipRetry bool // do not try another channel
}

// Error implements error.
func (e *ParamError) Error() string { return "param_override: " + e.Message }

// CheckParams reports what is wrong with a param_override.
func CheckParams(text []byte) error {
	_, err := ParseParams(text)
	return err
}

// ParseParams reads a param_override object. The error names the operation.
func ParseParams(text []byte) (*Params, error) {
	d, err := Scan(anything, text)
	if err != nil {
		return nil, err
	}
	if d.Root != Object {
		return nil, fmt.Errorf("not a JSON object")
	}
	if at := d.duplicate(); at != "" {
		return nil, fmt.Errorf("the key %q occurs twice", at)
	}
	p := &Params{}
	err = d.Members(d.root(), func(key string, _ int, v Value) error {
		if key == "operations" && v.Kind == Array {
			return p.parseOperations(d.Raw(v))
		}
		p.flat = append(p.flat, member{key, compact(d.Raw(v))})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// anything is the schema that watches nothing.
var anything = NewAnswerSchema()

func compact(raw []byte) string {
	var b bytes.Buffer
	if json.Compact(&b, raw) != nil {
		return string(raw)
	}
	return b.String()
}

func (p *Params) parseOperations(raw []byte) error {
	if err := json.Unmarshal(raw, &p.ops); err != nil {
		return fmt.Errorf("operations: %w", err)
	}
	if len(p.ops) > maxOperations {
		return fmt.Errorf("operations: more than %d", maxOperations)
	}
	for i := range p.ops {
		if err := p.ops[i].prepare(); err != nil {
			return fmt.Errorf("operations[%d]: %s: %w", i, p.ops[i].Mode, err)
		}
	}
	return nil
}

func (o *operation) prepare() (err error) {
	if o.conditions, err = parseConditions(o.Conditions, o.Logic, false); err != nil {
		return err
	}
	if len(o.Value) > 0 {
		if v := gjson.ParseBytes(o.Value); v.Type == gjson.String {
			o.text = v.Str
		} else {
			o.text = compact(o.Value)
		}
	}
	switch o.Mode {
	case "set", "append", "prepend":
		err = o.need(o.Path, len(o.Value) > 0)
	case "trim_prefix", "trim_suffix", "ensure_prefix", "ensure_suffix":
		err = o.need(o.Path, o.text != "")
	case "delete", "trim_space", "to_lower", "to_upper":
		err = checkPath("path", o.Path)
	case "move", "copy":
		if err = checkPath("from", o.From); err == nil {
			err = checkPath("to", o.To)
		}
	case "replace":
		if err = checkPath("path", o.Path); err == nil && o.From == "" {
			err = fmt.Errorf("from is required")
		}
	case "regex_replace":
		if err = checkPath("path", o.Path); err == nil {
			o.pattern, err = compilePattern(o.From)
		}
	case "return_error":
		o.answer, err = parseAnswer(o.Value, o.text)
	case "prune_objects":
		if o.Path != "" {
			err = checkPath("path", o.Path)
		}
		if err == nil {
			o.prune, err = parsePrune(o.Value, o.text)
		}
	case "set_header", "delete_header", "copy_header", "move_header", "pass_headers", "sync_fields":
		err = fmt.Errorf("headers are changed by header_override, not here")
	default:
		err = fmt.Errorf("unknown mode")
	}
	return err
}

func (o *operation) need(path string, value bool) error {
	if err := checkPath("path", path); err != nil {
		return err
	}
	if !value {
		return fmt.Errorf("value is required")
	}
	return nil
}

func compilePattern(pattern string) (*regexp.Regexp, error) {
	if pattern == "" || len(pattern) > maxPattern {
		return nil, fmt.Errorf("from must be a pattern of 1 to %d bytes", maxPattern)
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	return re, nil
}

// checkPath takes the paths that name one place: what gjson can only read
// (queries, modifiers, wildcards) cannot be written to.
func checkPath(field, path string) error {
	if path == "" {
		return fmt.Errorf("%s is required", field)
	}
	for _, seg := range splitPath(path) {
		if seg == "" {
			return fmt.Errorf("%s: %q has an empty part", field, path)
		}
		if n, err := strconv.Atoi(seg); err == nil && (n > maxIndex || n < -maxIndex) {
			return fmt.Errorf("%s: index %d is too large", field, n)
		}
		for i := 0; i < len(seg); i++ {
			switch seg[i] {
			case '\\':
				i++
			case '#', '*', '?', '|', '@', '!', '{', '[', '(':
				return fmt.Errorf("%s: %q does not name one place", field, path)
			}
		}
	}
	return nil
}

// splitPath parts a path at dots that are not escaped; escapes stay.
func splitPath(path string) []string {
	var out []string
	from := 0
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '\\':
			i++
		case '.':
			out = append(out, path[from:i])
			from = i + 1
		}
	}
	return append(out, path[from:])
}

func parseAnswer(value []byte, text string) (ParamError, error) {
	e := ParamError{Status: 400, Type: "invalid_request_error", Code: "invalid_request", Message: text, SkipRetry: true}
	v := gjson.ParseBytes(value)
	if v.IsObject() {
		e.Message = firstText(v, "message", "msg")
		if t := v.Get("type").Str; t != "" {
			e.Type = t
		}
		if c := plain(v.Get("code")); c != "" {
			e.Code = c
		}
		if s := Count(v, "status_code", "status"); s > 0 {
			e.Status = int(s)
		}
		if s := v.Get("skip_retry"); s.IsBool() {
			e.SkipRetry = s.Bool()
		}
	} else if v.Type != gjson.String {
		return e, fmt.Errorf("value must be a text or an object with a message")
	}
	if strings.TrimSpace(e.Message) == "" {
		return e, fmt.Errorf("message is required")
	}
	if e.Status < 400 || e.Status > 599 {
		return e, fmt.Errorf("status_code: %d is no error status", e.Status)
	}
	return e, nil
}

func firstText(r gjson.Result, names ...string) string {
	for _, name := range names {
		if s := r.Get(name).Str; s != "" {
			return s
		}
	}
	return ""
}

// Apply makes the changes. A *ParamError is the answer that the override
// demands, a *BadRequest a body that cannot be changed safely, any other error
// an operation that does not fit the body.
func (p *Params) Apply(body []byte, c ParamContext) ([]byte, error) {
	d, err := Scan(anything, body)
	if err != nil {
		return nil, err
	}
	// What is set or deleted must be what upstream reads.
	if key := d.duplicate(); key != "" {
		return nil, &BadRequest{Param: key, Message: "the key occurs twice"}
	}
	body = p.applyFlat(&d)
	for i := range p.ops {
		o := &p.ops[i]
		if !o.conditions.hold(body, c) {
			continue
		}
		if body, err = o.apply(body); err != nil {
			return nil, err
		}
	}
	return body, nil
}

func (p *Params) applyFlat(d *Document) []byte {
	if len(p.flat) == 0 {
		return d.body
	}
	var s Splices
	there := make(map[string]bool, len(p.flat))
	last, n := d.start()+1, 0
	_ = d.Members(d.root(), func(key string, _ int, v Value) error {
		for _, m := range p.flat {
			if m.key == key {
				s.Replace(v, m.raw)
				there[key] = true
			}
		}
		last = v.End
		n++
		return nil
	})
	var add []byte
	for _, m := range p.flat {
		if there[m.key] {
			continue
		}
		if n++; n > 1 {
			add = append(add, ',')
		}
		add = append(AppendQuoted(add, m.key), ':')
		add = append(add, m.raw...)
	}
	s.Insert(last, string(add))
	return s.Apply(d.body)
}

func (o *operation) apply(body []byte) ([]byte, error) {
	path, err := absolute(body, o.Path)
	if err != nil {
		return nil, o.wrap(err)
	}
	var out []byte
	switch o.Mode {
	case "return_error":
		e := o.answer
		return nil, &e
	case "prune_objects":
		out, err = o.prune.apply(body, path)
	case "delete":
		out, err = sjson.DeleteBytes(body, path)
	case "set":
		if o.KeepOrigin && gjson.GetBytes(body, path).Exists() {
			return body, nil
		}
		out, err = sjson.SetRawBytes(body, path, o.Value)
	case "move", "copy":
		out, err = o.transfer(body)
	case "append", "prepend":
		out, err = o.extend(body, path)
	default:
		out, err = o.edit(body, path)
	}
	if err != nil {
		return nil, o.wrap(err)
	}
	return out, nil
}

func (o *operation) wrap(err error) error {
	return fmt.Errorf("param_override: %s %s: %w", o.Mode, o.Path, err)
}

// absolute replaces negative indexes by those from the front.
func absolute(body []byte, path string) (string, error) {
	if !strings.Contains(path, "-") {
		return path, nil
	}
	segments := splitPath(path)
	for i, seg := range segments {
		n, err := strconv.Atoi(seg)
		if err != nil || n >= 0 || seg[0] != '-' || i == 0 {
			continue
		}
		list := gjson.GetBytes(body, strings.Join(segments[:i], "."))
		if !list.IsArray() {
			continue
		}
		size := len(list.Array())
		if size+n < 0 {
			return "", fmt.Errorf("index %d of %d elements", n, size)
		}
		segments[i] = strconv.Itoa(size + n)
	}
	return strings.Join(segments, "."), nil
}

func (o *operation) transfer(body []byte) ([]byte, error) {
	from, err := absolute(body, o.From)
	if err != nil {
		return nil, err
	}
	to, err := absolute(body, o.To)
	if err != nil {
		return nil, err
	}
	v := gjson.GetBytes(body, from)
	if !v.Exists() {
		return nil, fmt.Errorf("there is no %s", o.From)
	}
	if from == to {
		return body, nil
	}
	body, err = sjson.SetRawBytes(body, to, []byte(v.Raw))
	if err != nil || o.Mode == "copy" {
		return body, err
	}
	return sjson.DeleteBytes(body, from)
}

// extend adds to an array or a string, or merges into an object.
func (o *operation) extend(body []byte, path string) ([]byte, error) {
	v, front := gjson.GetBytes(body, path), o.Mode == "prepend"
	switch {
	case v.IsArray():
		return sjson.SetRawBytes(body, path, []byte(joinLists(v.Raw, o.elements(), front)))
	case v.IsObject():
		return o.merge(body, path, v)
	case v.Type == gjson.String:
		text := v.Str + o.text
		if front {
			text = o.text + v.Str
		}
		return sjson.SetRawBytes(body, path, AppendQuoted(nil, text))
	case !v.Exists():
		return nil, fmt.Errorf("there is nothing to extend")
	}
	return nil, fmt.Errorf("a %s cannot be extended", strings.ToLower(v.Type.String()))
}

// elements is the value as what stands between the brackets of an array.
func (o *operation) elements() string {
	raw := strings.TrimSpace(string(o.Value))
	if raw[0] == '[' {
		return strings.TrimSpace(raw[1 : len(raw)-1])
	}
	return raw
}

func joinLists(list, more string, front bool) string {
	old := strings.TrimSpace(strings.TrimSpace(list)[1 : len(strings.TrimSpace(list))-1])
	switch {
	case old == "":
		return "[" + more + "]"
	case more == "":
		return list
	case front:
		return "[" + more + "," + old + "]"
	}
	return "[" + old + "," + more + "]"
}

func (o *operation) merge(body []byte, path string, old gjson.Result) ([]byte, error) {
	if !gjson.ParseBytes(o.Value).IsObject() {
		return nil, fmt.Errorf("an object can be extended by an object only")
	}
	d, err := Scan(anything, []byte(old.Raw))
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	_ = d.Members(d.root(), func(key string, _ int, v Value) error {
		have[key] = v.Kind != Null
		return nil
	})
	add := Params{}
	vd, err := Scan(anything, o.Value)
	if err != nil {
		return nil, err
	}
	_ = vd.Members(vd.root(), func(key string, _ int, v Value) error {
		if !o.KeepOrigin || !have[key] {
			add.flat = append(add.flat, member{key, string(vd.Raw(v))})
		}
		return nil
	})
	return sjson.SetRawBytes(body, path, add.applyFlat(&d))
}

// edit is one of the changes of a text.
func (o *operation) edit(body []byte, path string) ([]byte, error) {
	v := gjson.GetBytes(body, path)
	if v.Type != gjson.String {
		return nil, fmt.Errorf("there is no text")
	}
	old, text := v.Str, ""
	switch o.Mode {
	case "trim_prefix":
		text = strings.TrimPrefix(old, o.text)
	case "trim_suffix":
		text = strings.TrimSuffix(old, o.text)
	case "ensure_prefix":
		text = o.text + strings.TrimPrefix(old, o.text)
	case "ensure_suffix":
		text = strings.TrimSuffix(old, o.text) + o.text
	case "trim_space":
		text = strings.TrimSpace(old)
	case "to_lower":
		text = strings.ToLower(old)
	case "to_upper":
		text = strings.ToUpper(old)
	case "replace":
		text = strings.ReplaceAll(old, o.From, o.To)
	case "regex_replace":
		text = o.pattern.ReplaceAllString(old, o.To)
	}
	if text == old {
		return body, nil
	}
	return sjson.SetRawBytes(body, path, AppendQuoted(nil, text))
}
