package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/sluice-gateway/sluice/core"
)

// LogFile is the name of the log file in its folder.
const LogFile = "sluice.log"

// LogOptions are what NewLogger needs. The zero value logs JSON at info to
// nowhere but Out.
type LogOptions struct {
	Out      io.Writer // usually stdout; nil = none
	Level    slog.Level
	Text     bool           // text instead of JSON
	Location *time.Location // of the times; nil = as they come
	Secrets  []core.Secret  // to be hidden wherever they turn up

	Dir      string // folder of the rotated file; "" = none
	MaxSize  int64  // bytes at which it rotates
	MaxFiles int    // rotated files that are kept; 0 = all
	MaxAge   time.Duration
}

// Log is a logger with its sinks. Everything that is written passes the
// redactor after it was rendered, so that no handler, group or error text can go
// around it.
type Log struct {
	*slog.Logger
	Level    *slog.LevelVar // may be changed while the node runs
	Redactor *Redactor
	file     *lumberjack.Logger
}

// NewLogger opens the sinks. Close the result at the end.
func NewLogger(o LogOptions) (*Log, error) {
	l := &Log{Level: new(slog.LevelVar), Redactor: NewRedactor(o.Secrets...)}
	l.Level.Set(o.Level)
	w := &redactWriter{redactor: l.Redactor}
	if o.Out != nil {
		w.sinks = append(w.sinks, o.Out)
	}
	if o.Dir != "" {
		file, err := openFile(o)
		if err != nil {
			return nil, err
		}
		l.file = file
		w.sinks = append(w.sinks, file)
	}
	ho := &slog.HandlerOptions{Level: l.Level, ReplaceAttr: replaceAttr(o.Location)}
	var h slog.Handler = slog.NewJSONHandler(w, ho)
	if o.Text {
		h = slog.NewTextHandler(w, ho)
	}
	l.Logger = slog.New(requestHandler{h})
	return l, nil
}

// Close closes the file. Later records still reach the other sink.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

// openFile checks that the file can be written now, since the rotating writer
// would only tell at the first record.
func openFile(o LogOptions) (*lumberjack.Logger, error) {
	path := filepath.Join(o.Dir, LogFile)
	err := os.MkdirAll(o.Dir, 0o750)
	if err == nil {
		var f *os.File
		if f, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("log folder %s cannot be written by user id %d: %w; give it to that user (chown -R %d %s), name another one with --log-dir or log.dir, or log to stdout only with log.dir: \"\"",
			o.Dir, os.Getuid(), err, os.Getuid(), o.Dir)
	}
	return &lumberjack.Logger{
		Filename: path, MaxSize: clamp(math.Ceil(float64(o.MaxSize) / (1 << 20))), MaxBackups: o.MaxFiles, MaxAge: clamp(math.Ceil(o.MaxAge.Hours() / 24)),
	}, nil
}

func clamp(f float64) int { return int(min(f, math.MaxInt32)) }

// redactWriter is the last stage. slog calls Write once a record, under a lock
// of the handler's; the lock here covers handlers that share it.
type redactWriter struct {
	redactor *Redactor
	mu       sync.Mutex
	sinks    []io.Writer
}

// Write gives the redacted line to every sink, whatever the others answer.
func (w *redactWriter) Write(line []byte) (int, error) {
	clean := w.redactor.Bytes(line)
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, s := range w.sinks {
		if _, err := s.Write(clean); err != nil {
			errs = append(errs, err)
		}
	}
	return len(line), errors.Join(errs...)
}

// replaceAttr hides values by the name of their attribute and puts times into
// the zone.
func replaceAttr(loc *time.Location) func([]string, slog.Attr) slog.Attr {
	return func(groups []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey:
			if len(groups) == 0 && loc != nil && a.Value.Kind() == slog.KindTime {
				return slog.Time(a.Key, a.Value.Time().In(loc))
			}
		case "authorization", "Authorization", "cookie", "Cookie", "password", "secret", "api_key", "access_token":
			return slog.String(a.Key, string(redacted))
		}
		return a
	}
}

// requestHandler adds the request's id from the context.
type requestHandler struct{ slog.Handler }

var _ slog.Handler = requestHandler{}

// Handle implements slog.Handler.
func (h requestHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := core.RequestID(ctx); id != "" && !has(r, requestIDKey) {
		r.AddAttrs(slog.String(requestIDKey, id))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h requestHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler.
func (h requestHandler) WithGroup(name string) slog.Handler {
	return requestHandler{h.Handler.WithGroup(name)}
}

const requestIDKey = "request_id"

func has(r slog.Record, key string) bool {
	found := false
	r.Attrs(func(a slog.Attr) bool {
		found = a.Key == key
		return !found
	})
	return found
}
