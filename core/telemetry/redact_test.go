package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core"
)

func TestRedactShapes(t *testing.T) {
	r := NewRedactor()
	key48 := strings.Repeat("aB3x", 12)
	for _, tt := range []struct{ in, want string }{
		{"401 from upstream: Incorrect API key provided: sk-proj-abcd_EFGH-1234.", "401 from upstream: Incorrect API key provided: sk-[redacted]."},
		{"Authorization: Bearer abcdef.ghi-jkl=", "Authorization: Bearer [redacted]"},
		{"authorization: bearer   abcdefghi", "authorization: bearer [redacted]"},
		{"Basic dXNlcjpwYXNz", "Basic [redacted]"},
		{`Get "https://g.example/v1beta/models?key=AbCd-123&alt=sse": EOF`, `Get "https://g.example/v1beta/models?key=[redacted]&alt=sse": EOF`},
		{"https://h/x?access_token=a1b2&x=1", "https://h/x?access_token=[redacted]&x=1"},
		{"api_key=abc api-key=abc X-Api-Key=abc", "api_key=[redacted] api-key=[redacted] X-Api-Key=[redacted]"},
		{"password=hunter2;", "password=[redacted];"},
		{"dial proxy socks5://user:pa55@10.0.0.1:1080: refused", "dial proxy socks5://[redacted]@10.0.0.1:1080: refused"},
		{"open root:pa:ss/w@tcp(db:3306)/new-api", "open [redacted]@tcp(db:3306)/new-api"},
		{"AIzaSyA-1234567890abcdefghijklmnopqrs", "AIza[redacted]"},
		{"key body " + key48 + " in a text", "key body [redacted] in a text"},
		{`{"error":{"api_key":"abc","model":"m"}}`, `{"error":{"api_key":"[redacted]","model":"m"}}`},
		{`{"body":"{\"client_secret\":\"abc\"}"}`, `{"body":"{\"client_secret\":\"[redacted]\"}"}`},
		{"Cookie=abc", "Cookie=[redacted]"},
		// What a handler has escaped.
		{`"msg":"a\nsk-abcdefgh\tBearer abcdefgh\u00e9sk-abcdefgh\npassword=abc\\key=abc"`, `"msg":"a\nsk-[redacted]\tBearer [redacted]\u00e9sk-[redacted]\npassword=[redacted]\\key=[redacted]"`},
		{`"a\n` + key48 + `\n"`, `"a\n[redacted]\n"`},
		{`"a\n` + key48[1:] + `"`, `"a\n` + key48[1:] + `"`},
	} {
		if got := r.String(tt.in); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.in, got, tt.want)
		}
	}
}

func TestRedactLeavesTheRest(t *testing.T) {
	r := NewRedactor("")
	for _, line := range []string{
		`{"time":"2026-01-02T03:04:05Z","level":"INFO","msg":"request","path":"/v1/chat/completions","model":"gpt-4o-mini","token_id":17,"tokens":12,"task":"task-force","status":200}`,
		"risk-averse disk-space ask-me", "monkey: 1", "https://host:3000/path?model=x", "2026-01-02T03:04:05", "mail user@host", "",
		"sha256 " + strings.Repeat("0f", 32), "see tokens=12 keyword=foo",
	} {
		if got := r.String(line); got != line {
			t.Errorf("%s\nbecame %s", line, got)
		}
	}
}

func TestRedactRegistered(t *testing.T) {
	strange := core.Secret(`pa"ss\wo<rd&ü 1`)
	r := NewRedactor("short", strange)
	r.Register("later-secret", "later-secret", "later-secret-longer")
	var b bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&b, nil), slog.NewTextHandler(&b, nil)} {
		slog.New(h).Info("it is "+strange.Reveal(), "value", strange.Reveal(), "map", map[string]string{"a": strange.Reveal()}, "quoted", `"`+strange.Reveal()+`"`)
		slog.New(h).Info("x", "url", "https://h/?q=pa%22ss%5Cwo%3Crd%26%C3%BC+1", "b", "later-secret-longer", "c", "short")
	}
	got := string(r.Bytes(b.Bytes()))
	for _, part := range []string{"wo<rd", `wo\u003crd`, "wo%3Crd", "later-secret", "-longer"} {
		if strings.Contains(got, part) {
			t.Errorf("shows %q:\n%s", part, got)
		}
	}
	if !strings.Contains(got, "short") {
		t.Error("a short word was blotted out")
	}
}

// A redacted JSON line is still JSON, and the secrets of its shapes are gone.
func FuzzRedact(f *testing.F) {
	for _, s := range []string{"Bearer abcdefghij", "a://u:p@h", `\"password\":\"x\"`, "sk-abcdefgh\n", "u:p\\@tcp(", "key=\"x", strings.Repeat("a", 50)} {
		f.Add(s, "value")
	}
	r := NewRedactor("registered-secret")
	f.Fuzz(func(t *testing.T, text, value string) {
		var b bytes.Buffer
		slog.New(slog.NewJSONHandler(&b, nil)).Info(text, "registered", "registered-secret", "value", value, "bearer", "Bearer sEcReT-"+"AbCdEf")
		out := r.Bytes(b.Bytes())
		if !json.Valid(out) {
			t.Fatalf("no JSON: %s", out)
		}
		if bytes.Contains(out, []byte("registered-secret")) || bytes.Contains(out, []byte("sEcReT-")) {
			t.Fatalf("shows a secret: %s", out)
		}
	})
}

func BenchmarkRedact(b *testing.B) {
	line := []byte(`{"time":"2026-01-02T03:04:05.123456789Z","level":"INFO","msg":"request","request_id":"20260102030405123456789abcdefgh","method":"POST","path":"/v1/chat/completions","model":"gpt-4o-mini","channel":3,"user":1,"token":17,"status":200,"duration_ms":812,"input":120,"output":340}` + "\n")
	r := NewRedactor("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210")
	b.ReportAllocs()
	b.SetBytes(int64(len(line)))
	for range b.N {
		r.Bytes(line)
	}
}
