package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

func TestMain(m *testing.M) {
	// The log file's writer keeps one goroutine until the process ends.
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("gopkg.in/natefinch/lumberjack%2ev2.(*Logger).millRun"),
		goleak.IgnoreTopFunction("os/signal.loop"))
}

// command runs a command in an environment of its own.
func command(t *testing.T, env []string, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd := newRoot(func(file string, flags map[string]string) config.Sources {
		return config.Sources{File: file, Env: env, Flags: flags}
	})
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errOut.String(), err
}

func TestVersion(t *testing.T) {
	out, _, err := command(t, nil, "", "version")
	if err != nil || !strings.HasPrefix(out, "sluice "+telemetry.Version()+" go") {
		t.Error(out, err)
	}
	out, _, err = command(t, nil, "", "version", "--json")
	var b telemetry.Build
	if err != nil || json.Unmarshal([]byte(out), &b) != nil || b.Version != telemetry.Version() {
		t.Error(out, err)
	}
	if out, _, err = command(t, nil, "", "--version"); err != nil || out != telemetry.Version()+"\n" {
		t.Error(out, err)
	}
}

func TestConfigCommands(t *testing.T) {
	dir := t.TempDir()
	out, _, err := command(t, []string{"REDIS_CONN_STRING=redis://h", "CRYPTO_SECRET=0123456789abcdef"}, "", "config", "print", "--port", "8080", "--data-dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`listen: ":8080"`, "# flag --port", "# REDIS_CONN_STRING: has no effect", `crypto: "[redacted]"`, "# env CRYPTO_SECRET"} {
		if !strings.Contains(out, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Error("printing made files")
	}
	out, errOut, err := command(t, []string{"REDIS_CONN_STRING=redis://h"}, "", "config", "validate")
	if err != nil || !strings.Contains(out, "is valid") || !strings.Contains(errOut, "REDIS_CONN_STRING") {
		t.Error(out, errOut, err)
	}
	_, _, err = command(t, []string{"SYNC_FREQUENCY=x", "PORT=y"}, "", "config", "validate")
	if err == nil || !strings.Contains(err.Error(), "env SYNC_FREQUENCY") || !strings.Contains(err.Error(), "env PORT") {
		t.Error(err)
	}
	if _, _, err = command(t, nil, "", "config", "print", "--config", filepath.Join(dir, "none.yaml")); err == nil || !strings.Contains(err.Error(), "flag --config") {
		t.Error(err)
	}
}

func TestUnknownCommandAndCompletion(t *testing.T) {
	if _, _, err := command(t, nil, "", "sing"); err == nil || !strings.Contains(err.Error(), "unknown command") {
		t.Error(err)
	}
	if out, _, err := command(t, nil, "", "completion", "bash"); err != nil || !strings.Contains(out, "sluice") {
		t.Error(err)
	}
	var out bytes.Buffer
	if code := run([]string{"sing"}, strings.NewReader(""), io.Discard, &out); code != 1 || !strings.HasPrefix(out.String(), "sluice: ") || !strings.Contains(out.String(), "sluice --help") {
		t.Error(code, out.String())
	}
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(status)
	}))
	addr := srv.Listener.Addr().String()
	env := []string{"SLUICE_SERVER__LISTEN=" + addr, "HTTP_PROXY=http://127.0.0.1:1"}
	if _, _, err := command(t, env, "", "healthcheck"); err != nil {
		t.Error(err)
	}
	if _, _, err := command(t, env, "", "healthcheck", "--ready"); err == nil || !strings.Contains(err.Error(), "503") {
		t.Error(err)
	}
	status = http.StatusInternalServerError
	if _, _, err := command(t, env, "", "healthcheck"); err == nil {
		t.Error("status 500 is not healthy")
	}
	srv.Close()
	if _, _, err := command(t, env, "", "healthcheck"); err == nil {
		t.Error("a closed port is not healthy")
	}
}

func TestLocalURL(t *testing.T) {
	for listen, want := range map[string]string{
		":3000": "http://127.0.0.1:3000", "0.0.0.0:1": "http://127.0.0.1:1", "[::]:2": "http://127.0.0.1:2", "10.0.0.1:3": "http://10.0.0.1:3", "[::1]:4": "http://[::1]:4",
	} {
		if got := localURL(listen); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
}

func TestReadPassword(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{"a password\nrest", "a password", ""},
		{"no newline", "no newline", ""},
		{"windows\r\n", "windows", ""},
		{"", "", "no password"},
		{"\nx", "", "no password"},
		{strings.Repeat("x", 2000), "", "longer than"},
	} {
		got, err := readPassword(strings.NewReader(tt.in))
		if got.Reveal() != tt.want || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: %q, %v", tt.in, got.Reveal(), err)
		}
	}
}

func TestServeUntil(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- serveUntil(ctx, ln, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}()
	if err := healthcheck(t.Context(), "http://"+ln.Addr().String()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestTwoSignals(t *testing.T) {
	exited := make(chan int, 1)
	ctx, stop := untilSignal(t.Context(), io.Discard, func(code int) { exited <- code })
	defer stop()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("the first signal did not end the context")
		}
	}
	select {
	case code := <-exited:
		if code != 1 {
			t.Error(code)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the second signal did not end the process")
	}
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	full := func(env ...string) (*config.Config, error) {
		cfg, err := config.Load(config.Sources{Env: env, Flags: map[string]string{"data-dir": dir, "log-dir": ""}})
		if err != nil {
			return nil, err
		}
		return cfg.WithStoredSecrets()
	}
	first, err := full()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	log, err := logger(first, &out, true)
	if err != nil {
		t.Fatal(err)
	}
	holder := config.NewHolder(first)
	reload(holder, log, func() (*config.Config, error) {
		return full("DEBUG=true", "STREAMING_TIMEOUT=5", "PORT=1", "REDIS_CONN_STRING=x")
	})
	if holder.Get().Relay.IdleTimeout != 5*time.Second || !log.Enabled(t.Context(), -4) {
		t.Error("the reload was not taken")
	}
	for _, want := range []string{`"applied":["relay.idle_timeout","log.level"]`, `"need_restart":["server.listen"]`, "REDIS_CONN_STRING", "wait for a restart"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %s: %s", want, out.String())
		}
	}
	before := holder.Get()
	reload(holder, log, func() (*config.Config, error) { return nil, errors.New("bad file") })
	if holder.Get() != before || !strings.Contains(out.String(), "bad file") {
		t.Error("a bad file changed the configuration")
	}
}

// The commands on a database of their own: schema first, then an account that
// does not exist.
func TestDatabaseCommands(t *testing.T) {
	dir := t.TempDir()
	env := []string{"SLUICE_NODE__DATA_DIR=" + dir, "SLUICE_LOG__LEVEL=error"}
	if _, _, err := command(t, env, "", "user", "reset-password", "root"); err == nil || !strings.Contains(err.Error(), "no node has run") {
		t.Error(err)
	}
	if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
		t.Error("a database was made", made, err)
	}
	if out, _, err := command(t, env, "", "migrate"); err != nil || !strings.Contains(out, "up to date") || strings.HasPrefix(out, "0 ") {
		t.Error(out, err)
	}
	if out, _, err := command(t, env, "", "migrate"); err != nil || !strings.HasPrefix(out, "0 migrations") {
		t.Error(out, err)
	}
	for _, args := range [][]string{{"user", "reset-password", "nobody"}, {"user", "reset-password", "nobody", "--password-stdin"}} {
		out, _, err := command(t, env, "a-new-password-1\n", args...)
		if err == nil || !strings.Contains(err.Error(), "nobody") || out != "" {
			t.Error(out, err)
		}
	}
	if _, _, err := command(t, env, "", "user", "reset-password"); err == nil {
		t.Error("a name is needed")
	}
}

func TestFakeLLM(t *testing.T) {
	out, lines := io.Pipe()
	cmd := newRoot(nil)
	cmd.SetArgs([]string{"fakellm", "--listen", "127.0.0.1:0"})
	cmd.SetOut(lines)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		lines.Close()
		done <- err
	}()
	seen := bufio.NewScanner(out)
	if !seen.Scan() {
		t.Fatal("it did not say where it is", <-done)
	}
	_, base, _ := strings.Cut(seen.Text(), " at ")
	if err := healthcheck(t.Context(), base+"/v1/models"); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A node from start to clean end, with a reload by signal in between.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "sluice.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("server:\n  listen: 127.0.0.1:0\nmetrics:\n  listen: \"\"\n")
	env := []string{"SQLITE_PATH=" + filepath.Join(dir, "x.db")}
	out, lines := io.Pipe()
	cmd := newRoot(func(file string, flags map[string]string) config.Sources {
		return config.Sources{File: file, Env: env, Flags: flags}
	})
	cmd.SetArgs([]string{"--config", file, "--data-dir", filepath.Join(dir, "data"), "--log-dir", filepath.Join(dir, "logs")})
	cmd.SetOut(lines)
	cmd.SetErr(lines)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := cmd.ExecuteContext(ctx)
		lines.Close()
		done <- err
	}()
	seen := bufio.NewScanner(out)
	addr := await(t, seen, "serving")["address"]
	if err := healthcheck(t.Context(), "http://"+addr.(string)+"/livez"); err != nil {
		t.Error(err)
	}
	write("server:\n  listen: 127.0.0.1:0\nmetrics:\n  listen: \"\"\nrelay:\n  timeout: 9s\n")
	if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if applied, ok := await(t, seen, "reloaded")["applied"].([]any); !ok || len(applied) != 1 || applied[0] != "relay.timeout" {
		t.Error(applied)
	}
	cancel()
	for seen.Scan() {
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(filepath.Join(dir, "logs", telemetry.LogFile)); err != nil || !bytes.Contains(data, []byte("reloaded")) {
		t.Error("the log file lacks what stdout had", err)
	}
}

// await reads log lines up to the one with this message.
func await(t *testing.T, lines *bufio.Scanner, message string) map[string]any {
	t.Helper()
	for lines.Scan() {
		var line map[string]any
		if json.Unmarshal(lines.Bytes(), &line) == nil && line["msg"] == message {
			return line
		}
	}
	t.Fatalf("the node ended before it said %q", message)
	return nil
}
