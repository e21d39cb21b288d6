// Package web is the HTTP face of a node: the front that every request passes
// (request id, recovery, CORS, client address), the one route table, sessions
// and access tokens, the management API in New API's shapes, the probes, and the
// table that gives every core.Code its status and type in each wire format.
//
// It is the only package that knows Echo, and echo.Context stays in web.go. It
// must not know SQL, how a request is relayed, or how money is counted: it sees
// core types, the store's methods, and the small interfaces of options.go.
//
// # How a noun is added
//
// A noun is one file with a method that returns its routes, named in
// (*Server).routes; nothing else registers a path:
//
//	func (s *Server) groupRoutes() []route {
//		return []route{
//			{method: "GET", path: "/api/group/", caller: callAdmin, handler: s.listGroups},
//		}
//	}
//
//	func (s *Server) listGroups(c *call) error {
//		…
//		return c.ok(names)
//	}
//
// A path that ends in "/" is a collection and answers without the slash as
// well. ":id" is a parameter: c.id("id") reads a positive number, c.param("id")
// the text. caller is the least that may call; limit is the rate limit class, by
// default the one of all /api routes. A route that reaches out to an upstream sets
// slow: its context has no management deadline.
//
// A handler answers through c.ok(data), c.done(), c.message(text), c.json(status,
// body) for replies outside the envelope, or replyPage for lists, and returns errors:
// *core.Error as the store and core.Errorf make them, anything else becomes an
// internal error whose cause is logged and not shown. Other helpers:
//
//	c.ctx()                        the request's context, with deadline and request id
//	c.user                         *core.User of the session or access token; nil for a guest
//	c.token                        core.Credential on callToken and callTokenRead routes
//	c.bind(&v)                     JSON body, bounded, checked by its `validate` tags
//	c.query("keyword")             text; c.queryInt("type", 0), c.queryTime("start_timestamp")
//	c.pageQuery()                  core.PageQuery from p, page_size, ps, size
//	c.update(fn)                   store.Update with the caller as actor
//	c.s.snapshot(), c.s.options()  never nil
//	unixSeconds(t, never)          times in seconds; never is 0 or -1
package web
