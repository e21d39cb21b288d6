package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// TransportOptions are what a transport is made with; a zero value means the default.
type TransportOptions struct {
	Policy                Policy
	ConnectTimeout        time.Duration // of the dial and, again, of the TLS handshake; 10 s
	TLSInsecureSkipVerify bool
	MaxIdleConns          int           // over all upstreams; 1024
	MaxIdleConnsPerHost   int           // 256
	IdleConnTimeout       time.Duration // 90 s
	UseEnvProxy           bool          // HTTP_PROXY and its like are obeyed
	MaxProxies            int           // proxies with a pool of connections of their own; 64

	// Resolver looks up host names; nil = the machine's. Whatever it says, the
	// address that is dialled is what is judged.
	Resolver *net.Resolver
}

func (o *TransportOptions) fill() {
	def := func(v *int, n int) {
		if *v <= 0 {
			*v = n
		}
	}
	def(&o.MaxIdleConns, 1024)
	def(&o.MaxIdleConnsPerHost, 256)
	def(&o.MaxProxies, 64)
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.IdleConnTimeout <= 0 {
		o.IdleConnTimeout = 90 * time.Second
	}
}

// Transport carries requests to upstreams. It never follows a redirect, never
// adds an encoding, bounds connecting but not the answer (that is the caller's,
// through the context), and refuses addresses by its policy at the moment of
// dialling. It is safe for concurrent use. Close ends idle connections.
type Transport struct {
	o      TransportOptions
	direct *http.Transport

	mu      sync.Mutex
	proxies map[string]*proxied
	clock   uint64
}

type proxied struct {
	t    *http.Transport
	used uint64
}

var _ http.RoundTripper = (*Transport)(nil)

// NewTransport makes a transport.
func NewTransport(o TransportOptions) *Transport {
	o.fill()
	t := &Transport{o: o, proxies: map[string]*proxied{}}
	t.direct = t.build(nil)
	if o.UseEnvProxy {
		t.direct.Proxy = http.ProxyFromEnvironment
	}
	return t
}

func (t *Transport) build(proxy *url.URL) *http.Transport {
	d := &net.Dialer{
		Timeout:         t.o.ConnectTimeout,
		Resolver:        t.o.Resolver,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 15 * time.Second, Count: 4},
		ControlContext:  t.control,
	}
	ht := &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.o.TLSInsecureSkipVerify}, //nolint:gosec // the operator's explicit wish
		TLSHandshakeTimeout:    t.o.ConnectTimeout,
		MaxIdleConns:           t.o.MaxIdleConns,
		MaxIdleConnsPerHost:    t.o.MaxIdleConnsPerHost,
		IdleConnTimeout:        t.o.IdleConnTimeout,
		DisableCompression:     true,
		ForceAttemptHTTP2:      true,
		MaxResponseHeaderBytes: 256 << 10,
		// A dead HTTP/2 connection is found by ping, since silence is normal here.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
	}
	if proxy != nil {
		ht.Proxy = http.ProxyURL(proxy)
	}
	return ht
}

// control sees the address that the socket is about to connect to.
func (t *Transport) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &ForbiddenError{Address: address, Reason: "not an IP address"}
	}
	return t.o.Policy.Check(ap.Addr())
}

// RoundTrip sends a request without a proxy of its own.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.send(req.Context(), "", req)
}

// Do sends a request for a channel, through the channel's proxy if it has one.
// The caller closes the body of the answer. An error that is not the context's
// own is a *core.Error: CodeChannelConfig when the address is not allowed or the
// proxy is unusable, CodeUpstreamConnect otherwise; its message names no address.
func (t *Transport) Do(ctx context.Context, ch *core.Channel, req *http.Request) (*http.Response, error) {
	if req.Context() != ctx {
		req = req.WithContext(ctx)
	}
	return t.send(ctx, ch.Parsed.Proxy.Reveal(), req)
}

func (t *Transport) send(ctx context.Context, proxy string, req *http.Request) (*http.Response, error) {
	via, err := t.pick(proxy, req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, describe(ctx, err)
	}
	resp, err := via.RoundTrip(req)
	if err != nil {
		return nil, describe(ctx, err)
	}
	return resp, nil
}

func (t *Transport) pick(proxy string, req *http.Request) (*http.Transport, error) {
	if proxy == "" {
		if t.o.UseEnvProxy {
			if u, err := t.direct.Proxy(req); err == nil && u != nil {
				return t.direct, t.o.Policy.checkLiteral(req.URL.Hostname())
			}
		}
		return t.direct, nil
	}
	if err := t.o.Policy.checkLiteral(req.URL.Hostname()); err != nil {
		return nil, err
	}
	return t.through(proxy)
}

// errProxy never holds the URL: it may contain a password.
var errProxy = errors.New("the proxy is not a http, https, socks5 or socks5h URL")

// through finds or makes the transport of a proxy. The least recently used one
// gives way when there are too many; its busy connections end with their requests.
func (t *Transport) through(proxy string) (*http.Transport, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock++
	if p, ok := t.proxies[proxy]; ok {
		p.used = t.clock
		return p.t, nil
	}
	u, err := url.Parse(proxy)
	if err != nil || u.Hostname() == "" {
		return nil, errProxy
	}
	switch u.Scheme {
	case "http", "https", "socks5", "socks5h":
	default:
		return nil, errProxy
	}
	if len(t.proxies) >= t.o.MaxProxies {
		var oldest string
		for k, p := range t.proxies {
			if oldest == "" || p.used < t.proxies[oldest].used {
				oldest = k
			}
		}
		t.proxies[oldest].t.CloseIdleConnections()
		delete(t.proxies, oldest)
	}
	p := &proxied{t: t.build(u), used: t.clock}
	t.proxies[proxy] = p
	return p.t, nil
}

// CloseIdleConnections closes the connections that no request uses.
func (t *Transport) CloseIdleConnections() {
	t.direct.CloseIdleConnections()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.proxies {
		p.t.CloseIdleConnections()
	}
}

// describe makes the error that the relay may show. What it says is fixed text;
// the cause, with addresses, is for the log.
func describe(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("call upstream: %w", errors.Join(context.Cause(ctx), ctx.Err()))
	}
	switch Reason(err) {
	case ReasonForbidden:
		return core.WrapError(core.CodeChannelConfig, err, "the address of the upstream is not allowed by the gateway's network policy")
	case ReasonProxy:
		return core.WrapError(core.CodeChannelConfig, err, "the channel's proxy cannot be used")
	case ReasonTimeout:
		return core.WrapError(core.CodeUpstreamConnect, err, "connecting to the upstream took too long")
	case ReasonRefused:
		return core.WrapError(core.CodeUpstreamConnect, err, "the upstream refused the connection")
	case ReasonDNS:
		return core.WrapError(core.CodeUpstreamConnect, err, "the upstream's host name could not be resolved")
	case ReasonTLS:
		return core.WrapError(core.CodeUpstreamConnect, err, "the TLS handshake with the upstream failed")
	case ReasonClosed:
		return core.WrapError(core.CodeUpstreamConnect, err, "the upstream closed the connection before it answered")
	}
	return core.WrapError(core.CodeUpstreamConnect, err, "the upstream could not be reached")
}

// The reasons of a failed call, for metrics.
const (
	ReasonForbidden = "forbidden" // the network policy refused the address
	ReasonProxy     = "proxy"     // the channel's proxy URL
	ReasonTimeout   = "timeout"   // connecting or the TLS handshake
	ReasonRefused   = "refused"
	ReasonDNS       = "dns"
	ReasonTLS       = "tls"
	ReasonClosed    = "closed" // the connection ended before an answer
	ReasonCanceled  = "canceled"
	ReasonOther     = "other"
)

// Reason classifies an error of Do into one of a few words.
func Reason(err error) string {
	var (
		forbid   *ForbiddenError
		dns      *net.DNSError
		netErr   net.Error
		cert     *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		dial     *net.OpError
		deadline = errors.Is(err, context.DeadlineExceeded)
	)
	switch {
	case errors.As(err, &forbid):
		return ReasonForbidden
	case errors.Is(err, errProxy):
		return ReasonProxy
	case errors.Is(err, context.Canceled):
		return ReasonCanceled
	case errors.As(err, &dns) && !dns.IsTimeout:
		return ReasonDNS
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return ReasonRefused
	case deadline, errors.As(err, &netErr) && netErr.Timeout():
		return ReasonTimeout
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &alert):
		return ReasonTLS
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return ReasonClosed
	case errors.As(err, &dial) && dial.Op == "dial":
		return ReasonRefused
	}
	return ReasonOther
}
