package relay

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core/llm"
)

// boomCodec makes taps that panic at their third event.
type boomCodec struct{ llm.Codec }

type boomTap struct {
	llm.Tap
	events int
}

func (c boomCodec) NewTap(r *llm.Request) llm.Tap { return &boomTap{Tap: c.Codec.NewTap(r)} }

func (t *boomTap) Event(data []byte) llm.Verdict {
	if t.events++; t.events == 3 {
		panic("boom")
	}
	return t.Tap.Event(data)
}

func TestPanicInAStreamBillsWhatWasGiven(t *testing.T) {
	r := newRig(t)
	r.relay.o.Codecs[llm.OpenAI] = boomCodec{r.relay.o.Codecs[llm.OpenAI]}
	more := make(chan struct{})
	r.handler(1, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		chunk := `data: {"choices":[{"index":0,"delta":{"content":"` + strings.Repeat("abcdefg", 10) + `"}}]}` + "\n\n"
		_, _ = io.WriteString(w, chunk+chunk)
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, chunk)
	})
	res := r.open("/v1/chat/completions", chatWith(`"stream":true`))
	defer res.Body.Close()
	_, _ = io.ReadFull(res.Body, make([]byte, 100))
	close(more)
	_, _ = io.Copy(io.Discard, res.Body)
	r.money(1, 0)
	if got := r.ledger.reserved[0].ChannelID; got != 1 {
		t.Errorf("reserved for channel %d", got)
	}
	if o := r.lastSettled(); o.Usage.Output != 40 || !o.Estimated || o.EndReason != "panic" {
		t.Fatalf("%+v", o)
	}
}
