package web

import (
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// caller is the least that may call a route.
type caller int

// The classes of callers.
const (
	callAnyone    caller = iota // no credential is looked at
	callVisitor                 // a session or access token is used where there is one
	callUser                    // role user
	callAdmin                   // role admin
	callRoot                    // role root
	callToken                   // an API key that may be used
	callTokenRead               // an API key, also an expired or exhausted one
	callRelay                   // an API key; the relay looks itself
)

// role is the role that a class of the management side needs.
func (c caller) role() core.Role {
	switch c {
	case callUser:
		return core.RoleUser
	case callAdmin:
		return core.RoleAdmin
	case callRoot:
		return core.RoleRoot
	}
	return core.RoleGuest
}

// limitClass is the rate limit that counts a route's requests.
type limitClass int

// The rate limits. All but limitNone of a management route count in limitAPI too.
const (
	limitAPI      limitClass = iota // GLOBAL_API, per address
	limitCritical                   // CRITICAL, per address: passwords and keys
	limitSearch                     // SEARCH, per user
	limitWeb                        // GLOBAL_WEB, per address: pages
	limitNone
)

// route is one line of the table: what is answered, for whom, and by what.
type route struct {
	method string // GET, POST, PUT, DELETE; "*" = all of them
	// path may have :parameters and a last *. One that ends in "/" is a
	// collection and answers without the slash as well.
	path   string
	caller caller
	limit  limitClass

	handler func(c *call) error

	mutates bool // a GET that changes something: protected like a POST
	slow    bool // reaches out to an upstream: no management deadline
	head    bool // a GET that answers HEAD as well
	bare    bool // errors in the OpenAI shape instead of the envelope

	op     llm.Operation // relay routes: what Relay.Serve is given
	format llm.Format    // relay routes: the caller's format
}

// paths are the patterns that a route is registered under.
func (rt *route) paths() []string {
	if len(rt.path) > 1 && strings.HasSuffix(rt.path, "/") {
		return []string{rt.path, strings.TrimSuffix(rt.path, "/")}
	}
	return []string{rt.path}
}

// methods are the HTTP methods that a route is registered under.
func (rt *route) methods() []string {
	switch {
	case rt.method == "*":
		return []string{"GET", "POST", "PUT", "PATCH", "DELETE"}
	case rt.head:
		return []string{rt.method, "HEAD"}
	}
	return []string{rt.method}
}

// unsafe reports whether a call may change something.
func (rt *route) unsafe() bool { return rt.mutates || rt.method != "GET" }

// formatOr is the wire format of a bare route's errors.
func (rt *route) formatOr() llm.Format {
	if rt.format == "" {
		return llm.OpenAI
	}
	return rt.format
}

// routes is the table.
func (s *Server) routes() []route {
	var all []route
	for _, part := range [][]route{
		s.relayRoutes(),
		s.healthRoutes(),
		s.statusRoutes(),
		s.setupRoutes(),
		s.sessionRoutes(),
		s.selfRoutes(),
		s.userRoutes(),
		s.tokenRoutes(),
		s.usageRoutes(),
		s.channelRoutes(),
		s.optionRoutes(),
		s.logRoutes(),
		s.groupRoutes(),
		s.modelsMetaRoutes(),
		s.pricingRoutes(),
		s.auditRoutes(),
		s.selftestRoutes(),
	} {
		all = append(all, part...)
	}
	return all
}
