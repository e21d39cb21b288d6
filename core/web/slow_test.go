package web

import (
	"bufio"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener hands out one end of each pipe that dial makes.
type pipeListener chan net.Conn

func (l pipeListener) Accept() (net.Conn, error) {
	if c, ok := <-l; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (l pipeListener) dial() net.Conn {
	near, far := net.Pipe()
	l <- far
	return near
}

// TestSlowClients is in the time of a bubble: a body that never comes, and a
// reply that is never read, end by the server's own clock.
func TestSlowClients(t *testing.T) {
	const announced = "Host: sluice\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
	serve := func(t *testing.T) pipeListener {
		x := newSite(t)
		l := make(pipeListener)
		srv := NewHTTPServer(x.cfg, x.h, slog.New(slog.DiscardHandler))
		go func() { _ = srv.Serve(l) }()
		t.Cleanup(func() { close(l); _ = srv.Close() })
		return l
	}
	for _, request := range []string{
		"GET /livez", "GET /api/status", "PUT /api/user/self", "POST /api/user/login", "POST /api/nothing", "POST /nothing", "GET /v1/models", "POST /v1/files",
		"POST /v1/nothing", "OPTIONS /api/user/self", "OPTIONS /v1/chat/completions",
	} {
		t.Run(request, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serve(t).dial()
				defer conn.Close()
				began := time.Now()
				_ = conn.SetDeadline(began.Add(2 * bodyTimeout))
				if _, err := io.WriteString(conn, request+" HTTP/1.1\r\nOrigin: http://elsewhere\r\nAccess-Control-Request-Method: POST\r\n"+announced); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(conn); err != nil {
					t.Fatalf("the connection is still open after %s: %v", time.Since(began), err)
				}
				if took := time.Since(began); took > bodyTimeout+5*time.Second {
					t.Errorf("ended after %s", took)
				}
			})
		})
	}
	for _, request := range []string{"GET /api/status", "POST /nothing", "GET /v1/models", "OPTIONS /api/user/self", "OPTIONS /v1/chat/completions"} {
		t.Run("no reader of "+request, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := serve(t).dial()
				defer conn.Close()
				if _, err := io.WriteString(conn, request+" HTTP/1.1\r\nHost: sluice\r\nOrigin: http://elsewhere\r\nAccess-Control-Request-Method: POST\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(replyTimeout + time.Second)
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				if b, err := io.ReadAll(conn); errors.Is(err, os.ErrDeadlineExceeded) || len(b) > 0 {
					t.Errorf("%d bytes, %v", len(b), err)
				}
			})
		})
	}
	t.Run("the next request has its own time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			conn := serve(t).dial()
			defer conn.Close()
			in := bufio.NewReader(conn)
			for range 3 {
				if _, err := io.WriteString(conn, "POST /api/user/login HTTP/1.1\r\nHost: sluice\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				time.Sleep(40 * time.Second)
			}
		})
	})
}
