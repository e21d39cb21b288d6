package provider

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/sluice-gateway/sluice/core"
)

// server listens on one of the addresses of the loopback network.
func server(t *testing.T, host string, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = ln
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func transport(t *testing.T, o TransportOptions) *Transport {
	t.Helper()
	tr := NewTransport(o)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func get(t *testing.T, tr *Transport, ch *core.Channel, to string) (status int, body string, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.Do(t.Context(), ch, req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// resolver answers A questions from a real DNS server in this process, so that
// the machine's own look-up code stands between it and the dialler.
func resolver(t *testing.T, answer func(name string, n int) []netip.Addr) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = pc.Close(); <-done })
	go func() {
		defer close(done)
		asked := map[string]int{}
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var p dnsmessage.Parser
			h, err := p.Start(buf[:n])
			if err != nil {
				continue
			}
			q, err := p.Question()
			if err != nil {
				continue
			}
			b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true})
			_ = b.StartQuestions()
			_ = b.Question(q)
			_ = b.StartAnswers()
			if name := strings.TrimSuffix(q.Name.String(), "."); q.Type == dnsmessage.TypeA {
				asked[name]++
				for _, a := range answer(name, asked[name]) {
					_ = b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class}, dnsmessage.AResource{A: a.As4()})
				}
			}
			msg, err := b.Finish()
			if err == nil {
				_, _ = pc.WriteTo(msg, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

func addrs(list ...string) []netip.Addr {
	out := make([]netip.Addr, len(list))
	for i, a := range list {
		out[i] = netip.MustParseAddr(a)
	}
	return out
}

// TestRebinding: the name is harmless when it is asked for the first time and
// dangerous the second time. What counts is the address that is dialled.
func TestRebinding(t *testing.T) {
	var hits atomic.Int64
	good := server(t, "127.0.0.2", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "good") })
	port := good.Listener.Addr().(*net.TCPAddr).Port
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	bad := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	_ = bad.Listener.Close()
	bad.Listener = ln
	bad.Start()
	t.Cleanup(bad.Close)

	tr := transport(t, TransportOptions{
		Policy: Policy{Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}},
		Resolver: resolver(t, func(name string, n int) []netip.Addr {
			switch {
			case name == "both.test":
				return addrs("127.0.0.1", "127.0.0.2")
			case n == 1:
				return addrs("127.0.0.2")
			}
			return addrs("127.0.0.1")
		}),
	})
	to := func(host string) string { return fmt.Sprintf("http://%s:%d/", host, port) }
	if _, body, err := get(t, tr, &core.Channel{}, to("rebind.test")); err != nil || body != "good" {
		t.Fatalf("%q, %v", body, err)
	}
	tr.CloseIdleConnections()
	if _, _, err := get(t, tr, &core.Channel{}, to("rebind.test")); !core.IsCode(err, core.CodeChannelConfig) || Reason(err) != ReasonForbidden {
		t.Fatalf("the second answer was dialled: %v", err)
	}
	if _, body, err := get(t, tr, &core.Channel{}, to("both.test")); err != nil || body != "good" {
		t.Fatalf("of two addresses the allowed one was not taken: %q, %v", body, err)
	}
	if hits.Load() != 0 {
		t.Fatalf("the forbidden server was reached %d times", hits.Load())
	}
}

func TestForbiddenAddresses(t *testing.T) {
	tr := transport(t, TransportOptions{Resolver: resolver(t, func(string, int) []netip.Addr { return addrs("169.254.169.254") })})
	public := transport(t, TransportOptions{Policy: Policy{Public: true}, Resolver: resolver(t, func(string, int) []netip.Addr { return addrs("127.0.0.1", "10.0.0.1") })})
	for _, tt := range []struct {
		tr *Transport
		to string
	}{
		{tr, "http://metadata.test/latest"},
		{tr, "http://169.254.169.254/latest"},
		{tr, "http://[::ffff:169.254.169.254]/"},
		{tr, "http://[::ffff:a9fe:a9fe]/"},
		{tr, "http://[64:ff9b::a9fe:a9fe]/"},
		{tr, "http://[2002:a9fe:a9fe::]/"},
		{tr, "http://[fd00:ec2::254]/"},
		{tr, "https://[fe80::1]/"},
		{tr, "http://0.0.0.0/"},
		{tr, "http://[::]/"},
		{tr, "http://100.100.100.200/"},
		{public, "http://anything.test/"},
		{public, "http://127.0.0.1/"},
		{public, "http://[::1]/"},
		{public, "http://192.168.0.1/"},
	} {
		_, _, err := get(t, tt.tr, &core.Channel{}, tt.to)
		if !core.IsCode(err, core.CodeChannelConfig) || Reason(err) != ReasonForbidden {
			t.Errorf("%s: %v", tt.to, err)
			continue
		}
		if msg := core.AsError(err).Message; strings.ContainsAny(msg, "0123456789") {
			t.Errorf("%s: the message shows an address: %s", tt.to, msg)
		}
	}
}

func TestErrors(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never speaks
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := closed.Addr().String()
	_ = closed.Close()
	abort := server(t, "127.0.0.1", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	plain := server(t, "127.0.0.1", func(http.ResponseWriter, *http.Request) {})
	self := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	self.Config.ErrorLog = log.New(io.Discard, "", 0)
	self.StartTLS()
	t.Cleanup(self.Close)

	tr := transport(t, TransportOptions{Resolver: resolver(t, func(string, int) []netip.Addr { return nil })})
	hasty := transport(t, TransportOptions{ConnectTimeout: 50 * time.Millisecond})
	for _, tt := range []struct {
		name   string
		tr     *Transport
		to     string
		reason string
	}{
		{"refused", tr, "http://" + gone, ReasonRefused},
		{"no such name", tr, "http://nowhere.test", ReasonDNS},
		{"handshake", hasty, "https://" + silent.Addr().String(), ReasonTimeout},
		{"no TLS there", tr, "https://" + plain.Listener.Addr().String(), ReasonTLS},
		{"unknown authority", tr, self.URL, ReasonTLS},
		{"closed", tr, abort.URL, ReasonClosed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := get(t, tt.tr, &core.Channel{}, tt.to)
			e := core.AsError(err)
			if e.Code != core.CodeUpstreamConnect || Reason(err) != tt.reason {
				t.Fatalf("%s: %v", Reason(err), err)
			}
			if strings.Contains(e.Message, "127.0.0") || strings.Contains(e.Message, ":") {
				t.Errorf("the message shows an address: %s", e.Message)
			}
		})
	}
	timeout := &net.OpError{Op: "dial", Err: timeoutError{}}
	if got := Reason(fmt.Errorf("x: %w", timeout)); got != ReasonTimeout {
		t.Errorf("a dial that took too long is %s", got)
	}
	insecure := transport(t, TransportOptions{TLSInsecureSkipVerify: true})
	if status, _, err := get(t, insecure, &core.Channel{}, self.URL); err != nil || status != 200 {
		t.Errorf("insecure by the operator's wish: %d, %v", status, err)
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return "i/o timeout" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestCancelReachesUpstream(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan time.Time, 1)
	s := server(t, "127.0.0.1", func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
		left <- time.Now()
	})
	tr := transport(t, TransportOptions{})
	cause := errors.New("client gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	var at time.Time
	go func() { <-arrived; at = time.Now(); cancel(cause) }()
	req, err := http.NewRequest(http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.Do(ctx, &core.Channel{}, req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, cause) || !errors.Is(err, context.Canceled) || Reason(err) != ReasonCanceled {
		t.Fatalf("%v", err)
	}
	if d := (<-left).Sub(at); d > 500*time.Millisecond { // the machine may be busy; it is under one usually
		t.Errorf("upstream noticed after %v", d)
	}
}

func TestNoRedirect(t *testing.T) {
	var hits atomic.Int64
	aim := server(t, "127.0.0.1", func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	s := server(t, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", aim.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	if status, _, err := get(t, transport(t, TransportOptions{}), &core.Channel{}, s.URL); err != nil || status != 307 || hits.Load() != 0 {
		t.Fatalf("%d, %v, followed %d times", status, err, hits.Load())
	}
}

func TestHTTP2(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	if _, body, err := get(t, transport(t, TransportOptions{TLSInsecureSkipVerify: true}), &core.Channel{}, s.URL); err != nil || body != "HTTP/2.0" {
		t.Fatalf("%q, %v", body, err)
	}
}

// TestOnce: a request that upstream has seen is not sent again, though the
// connection was a used one and died before the answer.
func TestOnce(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var seen atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				br := bufio.NewReader(conn)
				for i := 0; ; i++ {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					seen.Add(1)
					if i == 1 {
						return // read whole, then closed without an answer
					}
					_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	tr := transport(t, TransportOptions{})
	c := load(t)
	ch := &core.Channel{Type: 1, Key: "k", BaseURL: "http://" + ln.Addr().String()}
	send := func() error {
		req := request(t, c, ch, "chat", false, nil)
		resp, err := tr.Do(t.Context(), ch, req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		return err
	}
	if err := send(); err != nil {
		t.Fatal(err)
	}
	if err := send(); !core.IsCode(err, core.CodeUpstreamConnect) {
		t.Fatalf("%v", err)
	}
	if seen.Load() != 2 {
		t.Fatalf("upstream saw %d requests, want 2", seen.Load())
	}
	tr.CloseIdleConnections()
}

// httpProxy is a small proxy: absolute URIs and CONNECT.
func httpProxy(t *testing.T, seen chan<- string) *httptest.Server {
	return server(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method + " " + r.Host + " " + r.Header.Get("Proxy-Authorization")
		if r.Method != http.MethodConnect {
			out, err := http.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), r.Body)
			if err != nil {
				http.Error(w, "", http.StatusBadGateway)
				return
			}
			ht := &http.Transport{DisableKeepAlives: true}
			resp, err := ht.RoundTrip(out)
			if err != nil {
				http.Error(w, "", http.StatusBadGateway)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			w.WriteHeader(resp.StatusCode)
			_, _ = io.Copy(w, resp.Body)
			return
		}
		up, err := net.Dial("tcp", r.Host)
		if err != nil {
			http.Error(w, "", http.StatusBadGateway)
			return
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			_ = up.Close()
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		splice(conn, rw, up)
	})
}

func splice(conn net.Conn, r io.Reader, up net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(up, r); _ = up.Close() })
	_, _ = io.Copy(conn, up)
	_ = conn.Close()
	wg.Wait()
}

// socksProxy is RFC 1928 CONNECT with RFC 1929 passwords. Names are looked up here.
func socksProxy(t *testing.T, seen chan<- string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer func() { _ = conn.Close() }(); socks(conn, seen) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func socks(conn net.Conn, seen chan<- string) {
	br := bufio.NewReader(conn)
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(br, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	methods := read(int(read(2)[1]))
	user := ""
	if strings.ContainsRune(string(methods), 2) {
		_, _ = conn.Write([]byte{5, 2})
		read(1)
		user = string(read(int(read(1)[0]))) + ":" + string(read(int(read(1)[0])))
		_, _ = conn.Write([]byte{1, 0})
	} else {
		_, _ = conn.Write([]byte{5, 0})
	}
	var host string
	switch head := read(4); head[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(int(read(1)[0])))
	case 4:
		host = net.IP(read(16)).String()
	}
	port := binary.BigEndian.Uint16(read(2))
	seen <- fmt.Sprintf("%s %s", host, user)
	up, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	splice(conn, br, up)
}

func TestProxies(t *testing.T) {
	s := server(t, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hi") })
	ts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "tls") }))
	t.Cleanup(ts.Close)
	seen := make(chan string, 10)
	hp := httpProxy(t, seen)
	sp := socksProxy(t, seen)
	port := s.Listener.Addr().(*net.TCPAddr).Port
	// The machine's resolver must not be asked: through a proxy names are the proxy's to look up.
	tr := transport(t, TransportOptions{TLSInsecureSkipVerify: true, Resolver: resolver(t, func(string, int) []netip.Addr { t.Error("a name was looked up here"); return nil })})
	proxied := func(u string) *core.Channel {
		ch := &core.Channel{}
		ch.Parsed.Proxy = core.Secret(u)
		return ch
	}
	for _, tt := range []struct{ name, proxy, to, body, seen string }{
		{"http", hp.URL, s.URL, "hi", "GET " + s.Listener.Addr().String() + " "},
		{"http with a password", "http://u:p@" + hp.Listener.Addr().String(), s.URL, "hi", "GET " + s.Listener.Addr().String() + " Basic dTpw"},
		{"http to https", hp.URL, ts.URL, "tls", "CONNECT " + ts.Listener.Addr().String() + " "},
		{"socks5", "socks5://" + sp, s.URL, "hi", "127.0.0.1 "},
		{"socks5 with a password and a name", "socks5://u:p@" + sp, fmt.Sprintf("http://some.name:%d/", port), "hi", "some.name u:p"},
		{"socks5h", "socks5h://" + sp, fmt.Sprintf("http://some.name:%d/", port), "hi", "some.name "},
		{"socks5 to https", "socks5://" + sp, ts.URL, "tls", "127.0.0.1 "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, body, err := get(t, tr, proxied(tt.proxy), tt.to)
			if err != nil || body != tt.body {
				t.Fatalf("%q, %v", body, err)
			}
			if got := <-seen; got != tt.seen {
				t.Errorf("the proxy saw %q, want %q", got, tt.seen)
			}
		})
	}
	for _, host := range []string{"169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "0xa9fea9fe", "169.254.43518", "metadata.google.internal", "[fd00:ec2::254]"} {
		for _, p := range []string{hp.URL, "socks5://" + sp} {
			if _, _, err := get(t, tr, proxied(p), "http://"+host+"/latest"); Reason(err) != ReasonForbidden || !core.IsCode(err, core.CodeChannelConfig) {
				t.Errorf("%s through %s: %v", host, p, err)
			}
		}
	}
	for _, p := range []string{"http://169.254.169.254:3128", "socks5://[fd00:ec2::254]:1080"} {
		if _, _, err := get(t, tr, proxied(p), s.URL); Reason(err) != ReasonForbidden {
			t.Errorf("a proxy at %s: %v", p, err)
		}
	}
	if _, _, err := get(t, tr, proxied("ftp://u:hunter2@h"), s.URL); !core.IsCode(err, core.CodeChannelConfig) || Reason(err) != ReasonProxy || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a proxy that is none: %v", err)
	}
	select {
	case got := <-seen:
		t.Errorf("a proxy was asked for %q", got)
	default:
	}
}

func TestProxyPoolsAreBounded(t *testing.T) {
	s := server(t, "127.0.0.1", func(http.ResponseWriter, *http.Request) {})
	seen := make(chan string, 100)
	hp := httpProxy(t, seen)
	u, err := url.Parse(hp.URL)
	if err != nil {
		t.Fatal(err)
	}
	tr := transport(t, TransportOptions{MaxProxies: 3})
	use := func(i int) {
		ch := &core.Channel{}
		ch.Parsed.Proxy = core.Secret(fmt.Sprintf("http://user%d@%s", i, u.Host))
		if _, _, err := get(t, tr, ch, s.URL); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		use(0) // the one that is used most stays
		use(i)
	}
	tr.mu.Lock()
	n := len(tr.proxies)
	_, kept := tr.proxies["http://user0@"+u.Host]
	tr.mu.Unlock()
	if n != 3 || !kept {
		t.Errorf("%d pools, user0 kept: %v", n, kept)
	}
}

func TestEnvironmentProxyIsIgnored(t *testing.T) {
	tr := NewTransport(TransportOptions{})
	if tr.direct.Proxy != nil {
		t.Error("a proxy function is set")
	}
	if tr := NewTransport(TransportOptions{UseEnvProxy: true}); tr.direct.Proxy == nil {
		t.Error("the environment's proxy was wanted")
	}
}

func TestPublicClient(t *testing.T) {
	var hits atomic.Int64
	s := server(t, "127.0.0.1", func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	c := NewPublicClient(TransportOptions{TLSInsecureSkipVerify: true, UseEnvProxy: true, Resolver: resolver(t, func(string, int) []netip.Addr { return addrs("127.0.0.1", "10.0.0.1", "169.254.169.254") })}, true)
	t.Cleanup(c.CloseIdleConnections)
	for _, to := range []string{
		s.URL, "http://name.test:8080/", "https://10.0.0.1/", "http://127.1/", "http://[::1]:443/", "http://localhost/",
		"http://user:pw@8.8.8.8/", "http://8.8.8.8:22/", "ftp://8.8.8.8/", "http://100.64.0.1/", "http://[fc00::1]/", "http://[2002:7f00:1::]/",
	} {
		resp, err := c.Get(to)
		if err == nil {
			_ = resp.Body.Close()
		}
		if Reason(err) != ReasonForbidden {
			t.Errorf("%s: %v", to, err)
		}
	}
	strict := NewPublicClient(TransportOptions{}, false)
	if resp, err := strict.Get("http://8.8.8.8/"); err == nil || Reason(err) != ReasonForbidden {
		if err == nil {
			_ = resp.Body.Close()
		}
		t.Errorf("http though only https is allowed: %v", err)
	}
	if hits.Load() != 0 {
		t.Errorf("the server was reached %d times", hits.Load())
	}
	req := func(u string) *http.Request {
		r, err := http.NewRequest(http.MethodGet, u, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Key", "secret")
		r.Header.Set("Referer", u)
		return r
	}
	via := []*http.Request{req("https://a.test/"), req("https://a.test/1"), req("https://a.test/2")}
	next := req("https://b.test/")
	if err := c.CheckRedirect(next, via); err != nil || next.Header.Get("X-Key") != "" || next.Header.Get("Referer") != "" {
		t.Errorf("third hop to another host: %v, %v", err, next.Header)
	}
	next = req("http://a.test/")
	if err := c.CheckRedirect(next, via[:1]); err != nil || next.Header.Get("X-Key") != "" {
		t.Errorf("a hop out of TLS: %v, %v", err, next.Header)
	}
	if err := c.CheckRedirect(req("https://a.test/4"), append(via, req("https://a.test/3"))); !errors.Is(err, errRedirects) {
		t.Errorf("a fourth hop: %v", err)
	}
}
