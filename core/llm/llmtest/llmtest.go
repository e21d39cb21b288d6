// Package llmtest holds what every codec must pass. It is for tests of the
// packages below core/llm and knows the Codec contract only.
package llmtest

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/sluice-gateway/sluice/core/llm"
)

// maxCount bounds any number of tokens that a tap may report.
const maxCount = 1 << 44

// CheckTap feeds data to the taps of ops, as an event and as a body: no answer
// makes a tap panic, count below zero or beyond all reason.
func CheckTap(t *testing.T, codec llm.Codec, data []byte, ops ...llm.Operation) {
	t.Helper()
	for _, op := range ops {
		r := &llm.Request{Operation: op, Model: "m", Choices: 1, Input: 1}
		events, body := codec.NewTap(r), codec.NewTap(r)
		events.Event(data)
		events.Event(data)
		body.Body("application/json", data)
		for _, tap := range []llm.Tap{events, body} {
			u, _ := tap.Usage()
			for _, u := range []llm.Usage{u, tap.Estimate()} {
				for _, n := range []int64{u.Input, u.CacheRead, u.CacheWrite, u.CacheWrite1h, u.ImageInput, u.AudioInput, u.Output, u.AudioOutput, u.Reasoning} {
					if n < 0 || n > maxCount {
						t.Fatalf("%s: %+v", op, u)
					}
				}
			}
		}
	}
}

// CheckEdit edits model and system prompt of body, if it parses at all: the
// result is valid, asks for the same, and differs in the top-level keys of edited
// alone, of which at most one is new.
func CheckEdit(t *testing.T, codec llm.Codec, op llm.Operation, pathModel string, body []byte, model, system string, edited ...string) {
	t.Helper()
	r, err := codec.Parse(op, "", pathModel, body)
	if err != nil {
		return
	}
	for _, first := range []bool{false, true} {
		out, err := codec.Edit(r, llm.Edits{Model: model, SystemPrompt: system, SystemFirst: first})
		if err != nil {
			t.Fatal(err)
		}
		again, err := codec.Reparse(r, "", out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if system != "" && !again.HasSystem || again.Stream != r.Stream || again.MaxOutput != r.MaxOutput || again.Choices != r.Choices {
			t.Fatalf("%s became %s", body, out)
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(body, &before) != nil || json.Unmarshal(out, &after) != nil {
			t.Fatalf("%s became %s", body, out)
		}
		for key, raw := range before {
			if !slices.Contains(edited, key) && string(after[key]) != string(raw) {
				t.Fatalf("%s: %s became %s", key, raw, after[key])
			}
		}
		if len(after) > len(before)+1 {
			t.Fatalf("%s became %s", body, out)
		}
	}
}
