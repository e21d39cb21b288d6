package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/go-playground/validator/v10"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// call is one request to a management route.
type call struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	route   *route
	param   func(name string) string // a path parameter, unescaped
	ip      netip.Addr
	user    *core.User      // who calls; nil = guest, or an API key
	session *core.Session   // nil = access token or guest
	token   core.Credential // on callToken and callTokenRead routes

	began    time.Time
	authCode string // New API's code of the error, where the table's is not precise enough
	queries  url.Values
}

// ctx is the request's context.
func (c *call) ctx() context.Context { return c.r.Context() }

// actor is the caller for the audit log.
func (c *call) actor() core.Actor {
	a := core.Actor{IP: c.ip.String(), RequestID: core.RequestID(c.ctx()), Route: c.route.method + " " + c.route.path}
	if c.user != nil {
		a.UserID, a.Username = c.user.ID, c.user.Username
	}
	return a
}

// update runs fn in one replicated transaction with the caller as actor.
func (c *call) update(fn func(ctx context.Context, tx *store.Tx) error) error {
	ctx := c.ctx()
	_, err := c.s.o.Store.Update(ctx, c.actor(), func(tx *store.Tx) error { return fn(ctx, tx) })
	return err
}

// id reads a path parameter that must be a positive number.
func (c *call) id(name string) (int64, error) {
	n, err := strconv.ParseInt(c.param(name), 10, 64)
	if err != nil || n <= 0 {
		return 0, invalidField(name, "must be a positive number")
	}
	return n, nil
}

// query reads a query parameter, without the blanks around it.
func (c *call) query(name string) string {
	if c.queries == nil {
		c.queries = c.r.URL.Query()
	}
	return strings.TrimSpace(c.queries.Get(name))
}

// queryInt reads a whole number; absent is def.
func (c *call) queryInt(name string, def int64) (int64, error) {
	text := c.query(name)
	if text == "" {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, invalidField(name, "must be a whole number")
	}
	return n, nil
}

// queryBool reads true, false, 1, 0; absent is false.
func (c *call) queryBool(name string) (bool, error) {
	text := c.query(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, invalidField(name, "must be true or false")
	}
	return b, nil
}

// queryTime reads unix seconds; absent and 0 are the zero time.
func (c *call) queryTime(name string) (time.Time, error) {
	n, err := c.queryInt(name, 0)
	if err != nil || n == 0 {
		return time.Time{}, err
	}
	if n < 0 || n > maxUnixSeconds {
		return time.Time{}, invalidField(name, "must be a time in seconds since 1970")
	}
	return time.Unix(n, 0), nil
}

// maxUnixSeconds is the year 9999, so that milliseconds fit everywhere.
const maxUnixSeconds = 253402300799

// The window of a list.
const (
	pageSizeDefault = 10
	pageSizeMax     = 100
	pageMax         = 1_000_000
)

// pageQuery reads p (from 1) and page_size (or ps, size). Values out of range
// are brought into it, as New API does.
func (c *call) pageQuery() core.PageQuery {
	number := func(name string) int {
		n, err := strconv.Atoi(c.query(name))
		if err != nil {
			return 0
		}
		return n
	}
	size := 0
	for _, name := range []string{"page_size", "ps", "size"} {
		if size = number(name); size > 0 {
			break
		}
	}
	if size <= 0 {
		size = pageSizeDefault
	}
	size = min(size, pageSizeMax)
	p := min(max(number("p"), 1), pageMax)
	return core.PageQuery{Offset: (p - 1) * size, Limit: size}
}

// manageBody bounds the body of a known caller's management request.
const manageBody = 8 << 20

// bodyTimeout is how long a client may take to send a body outside the relay,
// and replyTimeout how long to take a reply.
const (
	bodyTimeout  = 30 * time.Second
	replyTimeout = 30 * time.Second
)

// boundBody makes an announced body come in time, whether somebody reads it or
// not: net/http reads the rest of a small one before it answers, and waits for it
// for ever. Whoever reads a body to its end lifts the deadline; the next request
// on the connection has its own.
func boundBody(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // a writer without deadlines is a test's
	}
}

// bind reads the JSON body into v and checks its `validate` tags. Unknown fields
// pass: New API's own clients send them.
func (c *call) bind(v any) error {
	limit := int64(manageBody)
	if c.user == nil {
		limit = min(limit, c.s.o.Config().Server.AnonymousBody)
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, limit))
	if err != nil { // what is left of the body keeps its deadline
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return core.Errorf(core.CodeBodyTooLarge, "the body is longer than %d bytes", tooLarge.Limit)
		}
		return core.WrapError(core.CodeReadBody, err, "the body could not be read")
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{}) // net/http goes on reading there to see the client leave
	if len(bytes.TrimSpace(body)) == 0 {
		return core.Errorf(core.CodeInvalidRequest, "the body is empty; JSON is expected")
	}
	if err := json.Unmarshal(body, v); err != nil {
		return bindError(err)
	}
	return c.s.check(v)
}

func bindError(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) && typ.Field != "" {
		return invalidField(typ.Field, "must be "+jsonKind(typ.Type.Kind().String())+", not "+typ.Value)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return core.Errorf(core.CodeInvalidRequest, "the body is not JSON: %s at byte %d", syntax, syntax.Offset)
	}
	return core.Errorf(core.CodeInvalidRequest, "the body cannot be read: %s", err)
}

// jsonKind is JSON's word for a Go kind.
func jsonKind(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"), strings.HasPrefix(kind, "uint"):
		return "a whole number"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "bool":
		return "true or false"
	case kind == "slice", kind == "array":
		return "a list"
	case kind == "struct", kind == "map":
		return "an object"
	}
	return "a text"
}

// check validates a value by its tags. The error names field and rule.
func (s *Server) check(v any) error {
	err := s.validate.Struct(v)
	if err == nil {
		return nil
	}
	var fields validator.ValidationErrors
	if !errors.As(err, &fields) || len(fields) == 0 {
		return core.WrapError(core.CodeInternal, err, "internal error")
	}
	f := fields[0]
	name := f.Namespace()
	if _, rest, ok := strings.Cut(name, "."); ok {
		name = rest
	}
	return invalidField(name, ruleText(f.Tag(), f.Param(), f.Kind().String()))
}

// invalidField is the error of one field.
func invalidField(field, rule string) *core.Error {
	e := core.Errorf(core.CodeInvalidRequest, "%s: %s", field, rule)
	e.Param = field
	return e
}

// ruleText says a rule in words.
func ruleText(tag, param, kind string) string {
	unit := ""
	switch kind {
	case "string":
		unit = " characters"
	case "slice", "map":
		unit = " entries"
	}
	switch tag {
	case "required":
		return "is required"
	case "min", "gte":
		return "must be at least " + param + unit
	case "max", "lte":
		return "must be at most " + param + unit
	case "gt":
		return "must be more than " + param + unit
	case "lt":
		return "must be less than " + param + unit
	case "oneof":
		return "must be one of " + strings.ReplaceAll(param, " ", ", ")
	case "email":
		return "must be an e-mail address"
	case "url", "http_url":
		return "must be a URL"
	}
	return "breaks the rule " + strings.TrimSuffix(tag+"="+param, "=")
}

// jsonName is a field's name in JSON.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	if name == "" || name == "-" {
		return f.Name
	}
	return name
}

// newValidator names fields as JSON does.
func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(jsonName)
	return v
}
