package provider

import (
	"errors"
	"fmt"
	"net/http"
)

const maxRedirects = 3

// errRedirects ends a chain of redirects.
var errRedirects = errors.New("too many redirects")

// NewPublicClient makes a client for URLs that come from users: media to fetch,
// webhooks. It dials public addresses only, on the web's ports, over https (http
// too if allowHTTP), uses no proxy, and judges every hop of at most three
// redirects anew. Time and size are bounded by the caller. The options' policy
// and UseEnvProxy are overruled.
func NewPublicClient(o TransportOptions, allowHTTP bool) *http.Client {
	o.Policy = Policy{Public: true}
	o.UseEnvProxy = false
	o.TLSInsecureSkipVerify = false
	return &http.Client{
		Transport: &publicTransport{t: NewTransport(o), allowHTTP: allowHTTP},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errRedirects
			}
			if req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme { // net/http drops some; a key may stand in any
				for name := range req.Header {
					if name != "Accept" && name != "User-Agent" && name != "Referer" {
						req.Header.Del(name)
					}
				}
			}
			req.Header.Del("Referer")
			return nil
		},
	}
}

type publicTransport struct {
	t         *Transport
	allowHTTP bool
}

// RoundTrip implements http.RoundTripper.
func (p *publicTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := p.check(req); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, describe(req.Context(), err)
	}
	return p.t.RoundTrip(req)
}

// CloseIdleConnections serves http.Client.CloseIdleConnections.
func (p *publicTransport) CloseIdleConnections() { p.t.CloseIdleConnections() }

func (p *publicTransport) check(req *http.Request) error {
	u := req.URL
	if u.Scheme != "https" && (u.Scheme != "http" || !p.allowHTTP) {
		return &ForbiddenError{Address: u.Host, Reason: fmt.Sprintf("scheme %s", u.Scheme)}
	}
	if u.User != nil {
		return &ForbiddenError{Address: u.Host, Reason: "credentials in the URL"}
	}
	switch u.Port() {
	case "", "80", "443", "8080", "8443":
	default:
		return &ForbiddenError{Address: u.Host, Reason: "port"}
	}
	return p.t.o.Policy.checkLiteral(u.Hostname())
}
