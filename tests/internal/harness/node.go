package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// TB is what the harness needs of a *testing.T; cmd-like users bring their own.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

var buildOnce = sync.OnceValues(func() (string, error) {
	root, err := ModuleRoot()
	if err != nil {
		return "", err
	}
	if bin := os.Getenv("SLUICE_TEST_BINARY"); bin != "" {
		return bin, nil
	}
	dir, err := os.MkdirTemp("", "sluice-bin")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "sluice")
	args := []string{"build", "-o", bin}
	if raceEnabled {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "./cmd/sluice")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return bin, nil
})

// Binary builds the gateway once per test process, with the race detector where
// the test has it, and returns its path. Call RemoveBinary at the end of TestMain.
func Binary(t TB) string {
	t.Helper()
	bin, err := buildOnce()
	if err != nil {
		t.Fatalf("%v", err)
	}
	return bin
}

// RemoveBinary removes what Binary built.
func RemoveBinary() {
	if os.Getenv("SLUICE_TEST_BINARY") != "" {
		return
	}
	if bin, err := buildOnce(); err == nil {
		_ = os.RemoveAll(filepath.Dir(bin))
	}
}

// ModuleRoot is the folder of go.mod.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("go.mod not found above the working folder")
		}
		dir = up
	}
}

// FreeAddr returns an address of 127.0.0.1 that was free a moment ago.
func FreeAddr(t TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// NodeOptions configure a node under test.
type NodeOptions struct {
	Dir  string            // data folder; "" = a new one. A node started on the folder of another continues it.
	Env  map[string]string // added to the environment; the test's own is not inherited
	Args []string          // "serve" when empty
	Bin  string            // the binary; "" = Binary(t)
}

// Node is a gateway process on free ports of 127.0.0.1.
type Node struct {
	URL     string
	Metrics string // base URL of the metrics listener
	Dir     string
	Cmd     *exec.Cmd
	Log     *Buffer

	t    TB
	opts NodeOptions
	done chan struct{}
	err  error
}

// Buffer is an output that may be read while it grows.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// StartNode starts a node and waits until it is ready. The test's end stops it.
func StartNode(t TB, o NodeOptions) *Node {
	t.Helper()
	n := SpawnNode(t, o)
	n.WaitReady(60 * time.Second)
	return n
}

// SpawnNode starts a node without waiting for it to be ready.
func SpawnNode(t TB, o NodeOptions) *Node {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Bin == "" {
		o.Bin = Binary(t)
	}
	addr, metrics := FreeAddr(t), FreeAddr(t)
	n := &Node{URL: "http://" + addr, Metrics: "http://" + metrics, Dir: o.Dir, Log: &Buffer{}, t: t, opts: o, done: make(chan struct{})}
	args := o.Args
	if len(args) == 0 {
		args = []string{"serve"}
	}
	cmd := exec.Command(o.Bin, args...)
	cmd.Dir = o.Dir
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": o.Dir, "TMPDIR": os.TempDir(),
		"SLUICE_SERVER__LISTEN": addr, "SLUICE_METRICS__LISTEN": metrics, "SLUICE_NODE__DATA_DIR": filepath.Join(o.Dir, "data"), "SLUICE_LOG__DIR": "",
		"GLOBAL_API_RATE_LIMIT_ENABLE": "false", "CRITICAL_RATE_LIMIT_ENABLE": "false", "SEARCH_RATE_LIMIT_ENABLE": "false",
	}
	for k, v := range o.Env {
		env[k] = v
	}
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdout, cmd.Stderr = n.Log, n.Log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start node: %v", err)
	}
	n.Cmd = cmd
	go func() { n.err = cmd.Wait(); close(n.done) }()
	t.Cleanup(func() {
		metrics := n.metricsText()
		n.Kill()
		n.checkCanaries(metrics)
		if strings.Contains(n.Log.String(), "DATA RACE") {
			t.Fatalf("data race in the node:\n%s", n.Log)
		}
	})
	return n
}

// WaitReady waits until /readyz answers 200, and fails the test if it does not.
func (n *Node) WaitReady(limit time.Duration) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, n.URL+"/readyz", nil)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-n.done:
			n.t.Fatalf("the node ended before it was ready: %v\n%s", n.err, n.Log)
		case <-ctx.Done():
			n.t.Fatalf("the node is not ready after %s\n%s", limit, n.Log)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop ends the node with SIGTERM and waits for a clean exit.
func (n *Node) Stop(limit time.Duration) error {
	_ = n.Cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.done:
		return n.err
	case <-time.After(limit):
		return fmt.Errorf("the node runs on %s after SIGTERM", limit)
	}
}

// Kill ends the node with SIGKILL and waits for its end.
func (n *Node) Kill() {
	_ = n.Cmd.Process.Kill()
	<-n.done
}

// Exited is closed when the process has ended.
func (n *Node) Exited() <-chan struct{} { return n.done }

// Restart starts a new process on the same data folder and environment, on new ports.
func (n *Node) Restart() *Node {
	n.t.Helper()
	o := n.opts
	o.Dir = n.Dir
	return StartNode(n.t, o)
}
