package relay

import (
	"strings"
	"testing"
)

func TestChatUnary(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, "")
	p := r.post("/v1/chat/completions", chatBody).want(200)
	p.has("Hello from the fake LLM", `"usage"`)
	r.money(1, 0)
	o := r.lastSettled()
	if o.Estimated || o.Usage.Output == 0 || o.Channel.ID != 1 || o.EndReason != "done" || o.Status != 200 || o.Stream {
		t.Fatalf("%+v", o)
	}
	got := up.Requests()
	if len(got) != 1 || string(got[0].Body) != chatBody || got[0].Header.Get("Authorization") != "Bearer sk-upstreamsecret" {
		t.Fatalf("%+v", got)
	}
}

func TestChatStream(t *testing.T) {
	r := newRig(t)
	up := r.upstream(1, "")
	p := r.post("/v1/chat/completions", chatWith(`"stream":true`)).want(200)
	if p.err != nil || !strings.HasSuffix(p.body, "data: [DONE]\n\n") {
		t.Fatalf("%v %q", p.err, p.body)
	}
	p.lacks(`"usage":{`)
	if ct := p.Header.Get("Content-Type"); !strings.HasPrefix(ct, "text/event-stream") || p.Header.Get("X-Accel-Buffering") != "no" || p.Header.Get("Cache-Control") != "no-cache" {
		t.Fatal(p.Header)
	}
	r.money(1, 0)
	if o := r.lastSettled(); o.Estimated || o.Usage.Output == 0 || !o.Stream || o.FirstByte <= 0 {
		t.Fatalf("%+v", o)
	}
	if got := string(up.Requests()[0].Body); !strings.Contains(got, `"include_usage":true`) {
		t.Fatal(got)
	}
}
