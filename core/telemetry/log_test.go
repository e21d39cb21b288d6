package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

func newLog(t *testing.T, o LogOptions) (*Log, *bytes.Buffer) {
	t.Helper()
	var b bytes.Buffer
	o.Out = &b
	l, err := NewLogger(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, &b
}

func TestLogHidesSecrets(t *testing.T) {
	type account struct {
		Key  core.Secret
		list []core.Secret
	}
	const canary = "canary-0123456789"
	for _, text := range []bool{false, true} {
		l, b := newLog(t, LogOptions{Text: text, Secrets: []core.Secret{canary}})
		l.With("bound", canary).WithGroup("g").Error("text "+canary,
			"error", fmt.Errorf("call: %w", errors.New("Bearer "+canary)),
			"secret_type", core.Secret("typed-secret-value"),
			"struct", account{Key: "typed-secret-value", list: []core.Secret{canary}},
			"password", "plain-password-value", "Authorization", "plain-header-value",
			slog.Group("inner", "api_key", "plain-key-value", "url", "https://h/?key=plain-query-value"))
		for _, part := range []string{canary, "typed-secret-value", "plain-password-value", "plain-header-value", "plain-key-value", "plain-query-value"} {
			if strings.Contains(b.String(), part) {
				t.Errorf("text=%v shows %s: %s", text, part, b.String())
			}
		}
		if !text && !json.Valid(b.Bytes()) {
			t.Errorf("no JSON: %s", b.String())
		}
	}
}

func TestLogLevelAndRegisteredLater(t *testing.T) {
	l, b := newLog(t, LogOptions{Level: slog.LevelWarn})
	l.Info("unseen")
	l.Level.Set(slog.LevelDebug)
	l.Debug("seen with later-secret")
	l.Redactor.Register("later-secret")
	l.Debug("hidden later-secret")
	if strings.Contains(b.String(), "unseen") || strings.Count(b.String(), "later-secret") != 1 {
		t.Error(b.String())
	}
}

func TestLogRequestIDAndZone(t *testing.T) {
	l, b := newLog(t, LogOptions{Location: time.FixedZone("x", 8*3600)})
	ctx := core.WithRequestID(t.Context(), "req-1")
	l.InfoContext(ctx, "a")
	l.With("x", 1).InfoContext(ctx, "b", "request_id", "given")
	lines := strings.Split(b.String(), "\n")
	if !strings.Contains(lines[0], `"request_id":"req-1"`) || !strings.Contains(lines[0], "+08:00") {
		t.Error(lines[0])
	}
	if strings.Count(lines[1], "request_id") != 1 || !strings.Contains(lines[1], "given") {
		t.Error(lines[1])
	}
}

func TestLogFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	l, b := newLog(t, LogOptions{Dir: dir, MaxSize: 1 << 20, MaxFiles: 2, MaxAge: time.Hour, Secrets: []core.Secret{"file-secret"}})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				l.Info("both sinks", "x", "file-secret", "pad", strings.Repeat("p", 100))
			}
		})
	}
	wg.Wait()
	data, err := os.ReadFile(filepath.Join(dir, LogFile))
	if err != nil || !bytes.Equal(data, b.Bytes()) || bytes.Contains(data, []byte("file-secret")) || bytes.Count(data, []byte("\n")) != 160 {
		t.Errorf("%d and %d bytes, %v", len(data), b.Len(), err)
	}
	if info, err := os.Stat(filepath.Join(dir, LogFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
}

func TestLogFileRotates(t *testing.T) {
	dir := t.TempDir()
	l, _ := newLog(t, LogOptions{Dir: dir, MaxSize: 1 << 20})
	for range 30 {
		l.Info(strings.Repeat("x", 64<<10))
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) < 2 {
		t.Error(files, err)
	}
}

func TestLogFolderUnwritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		_, err := NewLogger(LogOptions{Dir: dir})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("user id %d", os.Getuid())) || !strings.Contains(err.Error(), "--log-dir") {
			t.Error(err)
		}
	}
}

type brokenSink struct{}

func (brokenSink) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestBrokenSinkLeavesTheOther(t *testing.T) {
	dir := t.TempDir()
	l, err := NewLogger(LogOptions{Out: brokenSink{}, Dir: dir, MaxSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	l.Info("still here")
	if data, _ := os.ReadFile(filepath.Join(dir, LogFile)); !bytes.Contains(data, []byte("still here")) {
		t.Error("a closed stdout stopped the file")
	}
}
