package app

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core/config"
)

// runDemo runs a node with the demo on until stop is called; printed is what an
// operator sees.
func runDemo(t *testing.T, dir string) (printed string, stop func() error) {
	t.Helper()
	cfg := config.Default()
	cfg.Server.Listen, cfg.Metrics.Listen = "127.0.0.1:0", "127.0.0.1:0"
	cfg.Node.DataDir, cfg.Database.SQLitePath, cfg.Log.Dir = dir, filepath.Join(dir, "sluice.db"), ""
	cfg.Secrets.Session, cfg.Secrets.Crypto = "test-session-secret-0001", "test-crypto-secret-0001"
	ctx, cancel := context.WithCancel(context.Background())
	var out bytes.Buffer
	up, ended := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: config.NewHolder(cfg), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Demo: true, Out: &out, Listening: func(a net.Addr) { up <- a }})
	}()
	t.Cleanup(cancel)
	select {
	case <-up:
	case err := <-ended:
		t.Fatalf("ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("not up in 30 s")
	}
	return out.String(), func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			t.Fatal("does not stop")
			return nil
		}
	}
}

// Every curl line that the demo prints works as it is, and the second run keeps
// the data of the first.
func TestDemoLinesWork(t *testing.T) {
	dir := t.TempDir()
	first, stop := runDemo(t, dir)
	if !strings.Contains(first, "password") {
		t.Error("the first run does not show root's password")
	}
	runLines(t, first)
	if err := stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	second, stop := runDemo(t, dir)
	if strings.Contains(second, "password ") {
		t.Error("the second run made another root")
	}
	key := func(s string) string { _, rest, _ := strings.Cut(s, "sk-"); return rest[:48] }
	if key(first) != key(second) {
		t.Error("the second run has another token")
	}
	runLines(t, second)
	if err := stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
}

func runLines(t *testing.T, printed string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(printed) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		n++
		out, err := exec.Command("sh", "-c", line).CombinedOutput()
		if err != nil || bytes.Contains(out, []byte(`"error"`)) || !bytes.Contains(out, []byte("{")) {
			t.Errorf("%s\n-> %v %s", line, err, out)
		}
		if strings.Contains(line, `"Hello"`) && !bytes.Contains(out, []byte("Hello")) && !strings.Contains(line, "stream") {
			t.Errorf("%s\n-> %s", line, out)
		}
	}
	if n < 5 {
		t.Errorf("%d lines in %s", n, printed)
	}
}

func TestProbesWhileTheDatabaseIsAwaited(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	dir := t.TempDir()
	cfg := config.Default()
	cfg.Server.Listen, cfg.Metrics.Listen, cfg.Node.DataDir, cfg.Log.Dir = addr, "", dir, ""
	cfg.Database.DSN = "user:pw@tcp(127.0.0.1:1)/db?timeout=1s"
	cfg.Secrets.Session, cfg.Secrets.Crypto = "test-session-secret-0001", "test-crypto-secret-0001"
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: config.NewHolder(cfg), Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	}()
	for _, tt := range []struct {
		path   string
		status int
		has    string
	}{
		{"/livez", 200, `"ok"`}, {"/readyz", 503, `"unavailable"`}, {"/readyz?verbose", 503, `"name":"started","ok":false`},
		{"/api/status", 200, `"success":true`}, {"/api/user/self", 503, `"success":false`},
		{"/v1/models", 503, `"code":"node_starting"`}, {"/v1/messages", 503, `"type":"overloaded_error"`}, {"/v1beta/models", 503, `"status":"UNAVAILABLE"`},
	} {
		end := time.Now().Add(10 * time.Second)
		for {
			resp, err := http.Get("http://" + addr + tt.path)
			if err == nil {
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != tt.status || !bytes.Contains(body, []byte(tt.has)) {
					t.Errorf("%s: %d %s %v", tt.path, resp.StatusCode, body, err)
				}
				break
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
			<-time.After(5 * time.Millisecond)
		}
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("a start that was called off: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("does not stop")
	}
}

// Two processes in one data folder are two nodes; a node that comes back has its
// own id again.
func TestNodeIDsInOneFolder(t *testing.T) {
	dir := t.TempDir()
	take := func() (string, func() error) {
		t.Helper()
		id, release, err := nodeID(dir)
		if err != nil {
			t.Fatal(err)
		}
		return id, release
	}
	first, releaseFirst := take()
	second, releaseSecond := take()
	if first == second || len(first) != 32 || len(second) != 32 {
		t.Error(first, second)
	}
	for _, release := range []func() error{releaseFirst, releaseSecond} {
		if err := release(); err != nil {
			t.Error(err)
		}
	}
	again, release := take()
	if again != first {
		t.Errorf("%s, want %s", again, first)
	}
	if err := release(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node_id"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := nodeID(dir); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Error(err)
	}
}

// While a request runs, a draining node says so to who asks whether it is ready.
func TestReadyWhileDraining(t *testing.T) {
	printed, stop := runDemo(t, t.TempDir())
	_, rest, _ := strings.Cut(printed, " at ")
	base, _, _ := strings.Cut(rest, ",")
	_, rest, _ = strings.Cut(printed, "sk-")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/v1/chat/completions",
		strings.NewReader(`{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}],"fake":{"chunks":10,"chunk_delay_ms":100}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer sk-"+rest[:48])
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for end := time.Now().Add(5 * time.Second); ; {
		ready, err := http.Get(base + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		ready.Body.Close()
		if ready.StatusCode == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(end) {
			t.Fatal("ready while it drains")
		}
	}
	if body, err := io.ReadAll(resp.Body); err != nil || !bytes.Contains(body, []byte("[DONE]")) {
		t.Errorf("the stream was cut: %s %v", body, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
