package llm

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
)

// condition is one test of a param_override.
type condition struct {
	Path        string          `json:"path"`
	Mode        string          `json:"mode"`
	Value       json.RawMessage `json:"value"`
	Invert      bool            `json:"invert"`
	PassMissing bool            `json:"pass_missing_key"`

	want gjson.Result
}

type conditions struct {
	list []condition
	all  bool // logic AND
}

// parseConditions reads a list of conditions, or an object {path: value} whose
// every member must be equal.
func parseConditions(raw json.RawMessage, logic string, all bool) (c conditions, err error) {
	switch strings.ToUpper(logic) {
	case "":
		c.all = all
	case "AND":
		c.all = true
	case "OR":
	default:
		return c, fmt.Errorf("logic: %q is not AND or OR", logic)
	}
	v := gjson.ParseBytes(raw)
	switch {
	case !v.Exists() || v.Type == gjson.Null:
		return c, nil
	case v.IsObject():
		c.list = equalities(v)
		c.all = c.all || logic == ""
	case v.IsArray():
		if err := json.Unmarshal(raw, &c.list); err != nil {
			return c, fmt.Errorf("conditions: %w", err)
		}
	default:
		return c, fmt.Errorf("conditions: not a list")
	}
	for i := range c.list {
		if err := c.list[i].prepare(); err != nil {
			return c, fmt.Errorf("conditions[%d]: %w", i, err)
		}
	}
	return c, nil
}

func equalities(v gjson.Result) (list []condition) {
	v.ForEach(func(key, value gjson.Result) bool {
		list = append(list, condition{Path: key.Str, Mode: "full", Value: json.RawMessage(value.Raw)})
		return true
	})
	return list
}

func (c *condition) prepare() error {
	if c.Path == "" {
		return fmt.Errorf("path is required")
	}
	switch c.Mode {
	case "full", "prefix", "suffix", "contains", "gt", "gte", "lt", "lte":
	case "":
		c.Mode = "full"
	default:
		return fmt.Errorf("mode: %q is not full, prefix, suffix, contains, gt, gte, lt or lte", c.Mode)
	}
	if len(c.Value) == 0 {
		return fmt.Errorf("value is required")
	}
	c.want = gjson.ParseBytes(c.Value)
	return nil
}

func (c *conditions) hold(body []byte, ctx ParamContext) bool {
	if len(c.list) == 0 {
		return true
	}
	for i := range c.list {
		if c.list[i].holds(body, ctx) != c.all {
			return !c.all
		}
	}
	return c.all
}

// holds tests one condition; the body's own keys win over those of the context.
func (c *condition) holds(body []byte, ctx ParamContext) bool {
	path, err := absolute(body, c.Path)
	if err != nil {
		return c.PassMissing
	}
	v := gjson.GetBytes(body, path)
	if !v.Exists() {
		switch c.Path {
		case "original_model":
			v = gjson.Result{Type: gjson.String, Str: ctx.OriginalModel}
		case "upstream_model", "model":
			v = gjson.Result{Type: gjson.String, Str: ctx.UpstreamModel}
		default:
			return c.PassMissing
		}
	}
	return c.compare(v) != c.Invert
}

func (c *condition) compare(v gjson.Result) bool {
	numbers := v.Type == gjson.Number && c.want.Type == gjson.Number
	switch c.Mode {
	case "full":
		return sameValue(v, c.want)
	case "prefix":
		return strings.HasPrefix(v.String(), c.want.String())
	case "suffix":
		return strings.HasSuffix(v.String(), c.want.String())
	case "contains":
		return strings.Contains(v.String(), c.want.String())
	case "gt":
		return numbers && v.Num > c.want.Num
	case "gte":
		return numbers && v.Num >= c.want.Num
	case "lt":
		return numbers && v.Num < c.want.Num
	case "lte":
		return numbers && v.Num <= c.want.Num
	}
	return false
}

func sameValue(a, b gjson.Result) bool {
	if a.Type != b.Type {
		return false
	}
	switch a.Type {
	case gjson.String:
		return a.Str == b.Str
	case gjson.Number:
		return a.Raw == b.Raw || a.Num == b.Num
	case gjson.JSON:
		return compact([]byte(a.Raw)) == compact([]byte(b.Raw))
	}
	return true
}

// prune drops objects that meet conditions from arrays and objects.
type prune struct {
	conditions conditions
	recursive  bool
}

// parsePrune reads the value of prune_objects: a type, or an object with type,
// where {key: value}, conditions, logic (AND) and recursive (true).
func parsePrune(value []byte, text string) (p prune, err error) {
	p.recursive = true
	p.conditions.all = true
	v := gjson.ParseBytes(value)
	if v.Type == gjson.String && text != "" {
		quoted := AppendQuoted(nil, text)
		p.conditions.list = []condition{{Path: "type", Mode: "full", Value: quoted, want: gjson.ParseBytes(quoted)}}
		return p, nil
	}
	if !v.IsObject() {
		return p, fmt.Errorf("value must be a type or an object")
	}
	if p.conditions, err = parseConditions(json.RawMessage(v.Get("conditions").Raw), v.Get("logic").Str, true); err != nil {
		return p, err
	}
	where := v.Get("where")
	if where.Exists() && !where.IsObject() {
		return p, fmt.Errorf("where must be an object")
	}
	more := equalities(where)
	if t := v.Get("type"); t.Exists() {
		more = append(more, condition{Path: "type", Mode: "full", Value: json.RawMessage(t.Raw)})
	}
	for i := range more {
		if err := more[i].prepare(); err != nil {
			return p, fmt.Errorf("where: %w", err)
		}
	}
	p.conditions.list = append(p.conditions.list, more...)
	if len(p.conditions.list) == 0 {
		return p, fmt.Errorf("no condition: it would drop everything")
	}
	if r := v.Get("recursive"); r.IsBool() {
		p.recursive = r.Bool()
	}
	return p, nil
}

func (p *prune) apply(body []byte, path string) ([]byte, error) {
	target := body
	if path != "" {
		v := gjson.GetBytes(body, path)
		if !v.IsArray() && !v.IsObject() {
			return body, nil
		}
		target = []byte(v.Raw)
	}
	d, err := Scan(anything, target)
	if err != nil {
		return nil, err
	}
	var s Splices
	p.walk(&s, &d, d.root(), 0)
	if len(s) == 0 {
		return body, nil
	}
	if path == "" {
		return s.Apply(target), nil
	}
	return sjson.SetRawBytes(body, path, s.Apply(target))
}

// child is an element of an array or a member of an object, its key included.
type child struct {
	start int
	value Value
	drop  bool
}

// maxPrune is how deep prune looks: each level reads what is below it again.
const maxPrune = 64

// walk collects what is to be cut out of v, each piece with one comma.
func (p *prune) walk(s *Splices, d *Document, v Value, depth int) {
	if depth == maxPrune {
		return
	}

	var list []child
	add := func(start int, c Value) {
		drop := c.Kind == Object && p.conditions.hold(d.Raw(c), ParamContext{})
		list = append(list, child{start, c, drop})
		if !drop {
			p.walk(s, d, c, depth+1)
		}
	}
	switch {
	case v.Kind == Array:
		_ = d.Each(v, func(c Value) error { add(c.Start, c); return nil })
	case v.Kind == Object && p.recursive:
		_ = d.Members(v, func(_ string, at int, c Value) error { add(at, c); return nil })
	}
	kept := false
	for i, c := range list {
		switch {
		case !c.drop:
			kept = true
		case kept:
			*s = append(*s, Splice{Start: list[i-1].value.End, End: c.value.End})
		case i+1 < len(list):
			*s = append(*s, Splice{Start: c.start, End: list[i+1].start})
		default:
			*s = append(*s, Splice{Start: c.start, End: c.value.End})
		}
	}
}
