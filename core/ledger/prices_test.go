package ledger

import (
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/core"
)

func text(r *core.Ratio) string {
	if r == nil {
		return "-"
	}
	return r.String()
}

// TestBuiltinPrices compares the numbers that New API's users know.
func TestBuiltinPrices(t *testing.T) {
	s := snapshot(t, core.Rows{})
	for model, want := range map[string]string{ // ratio completion cache create
		"gpt-4o":                     "1.25 4 0.5 -",
		"gpt-4o-mini":                "0.075 4 0.5 -",
		"gpt-4o-2024-05-13":          "2.5 3 1 -",
		"gpt-4.1":                    "1 4 0.25 -",
		"gpt-5":                      "0.625 8 0.1 -",
		"gpt-5-mini":                 "0.125 8 0.1 -",
		"gpt-5.4":                    "1.25 6 0.1 -",
		"o1":                         "7.5 4 0.5 -",
		"o3":                         "1 4 0.25 -",
		"o3-mini":                    "0.55 4 0.5 -",
		"o4-mini":                    "0.55 4 0.25 -",
		"gpt-3.5-turbo":              "0.25 3 - -",
		"gpt-3.5-turbo-16k":          "1.5 1.333333333 - -",
		"claude-sonnet-4":            "1.5 5 0.1 1.25",
		"claude-sonnet-4-5":          "1.5 5 0.1 1.25",
		"claude-opus-4":              "7.5 5 0.1 1.25",
		"claude-opus-4-1":            "7.5 5 0.1 1.25",
		"claude-opus-4-5":            "2.5 5 0.1 1.25",
		"claude-opus-4-8":            "2.5 5 0.1 1.25",
		"claude-haiku-4-5":           "0.5 5 0.1 1.25",
		"claude-3-5-sonnet-20241022": "1.5 5 0.1 1.25",
		"gemini-1.5-pro":             "0.625 4 0.25 -",
		"gemini-2.5-pro":             "0.625 8 0.1 -",
		"gemini-2.5-flash":           "0.15 8.333333333 0.1 -",
		"deepseek-chat":              "0.135 4 0.25 -",
		"deepseek-reasoner":          "0.275 4 0.25 -",
		"mistral-large-2411":         "1 3 - -",
		"text-embedding-3-small":     "0.01 - - -",
		"whisper-1":                  "15 - - -",
		"tts-1":                      "7.5 - - -",
		"gpt-4-gizmo-abc":            "15 2 - -", // a family with a price
		"gpt-5-nobody":               "- 8 0.1 -",
		"nobody":                     "- - - -",
	} {
		p, ok := s.Price(model)
		if got := strings.Join([]string{text(p.Ratio), text(p.Completion), text(p.Cache), text(p.CreateCache)}, " "); got != want {
			t.Errorf("%s: got %s, want %s", model, got, want)
		}
		if ok != (p.Ratio != nil) {
			t.Errorf("%s: known is %v", model, ok)
		}
	}
	if n := len(builtin(t)); n < 200 {
		t.Errorf("%d entries", n)
	}
}

func TestRowsOverBuiltinPrices(t *testing.T) {
	none := core.PriceNone
	s := snapshot(t, core.Rows{Prices: map[string]*core.Price{
		"gpt-4o":           {Model: "gpt-4o", Ratio: ratio("9")},
		"gpt-4o-mini":      {Model: "gpt-4o-mini", Completion: ratio("7")},
		"gpt-5":            {Model: "gpt-5", Completion: ratio("2")},
		"gpt-5-own":        {Model: "gpt-5-own", Ratio: ratio("1"), Completion: ratio("2")},
		"mistral-/x":       {Model: "mistral-/x", Ratio: ratio("1"), Completion: ratio("2")},
		"dall-e-3":         {Model: "dall-e-3", PerCall: &none, Ratio: ratio("3")},
		"o3":               {Model: "o3", Ratio: &none},
		"own-*":            {Model: "own-*", Ratio: ratio("4"), Completion: ratio("5")},
		"own-dear-*":       {Model: "own-dear-*", Ratio: ratio("40")},
		"gpt-4-gizmo-ours": {Model: "gpt-4-gizmo-ours", PerCall: ratio("0.5")},
	}})
	for model, want := range map[string]string{ // ratio completion per call
		"gpt-4o":           "9 4 -",
		"gpt-4o-mini":      "0.075 7 -",
		"gpt-5":            "0.625 8 -", // locked
		"gpt-5-own":        "1 8 -",     // locked by its family
		"mistral-/x":       "1 2 -",     // a slash: the row first
		"dall-e-3":         "3 - -",
		"o3":               "- 4 -",
		"own-a":            "4 5 -",
		"own-dear-a":       "40 5 -",
		"gpt-4-gizmo-ours": "- 2 0.5", // not both kinds of price
	} {
		p, _ := s.Price(model)
		if got := strings.Join([]string{text(p.Ratio), text(p.Completion), text(p.PerCall)}, " "); got != want {
			t.Errorf("%s: got %s, want %s", model, got, want)
		}
	}
	if _, ok := s.Price("o3"); ok {
		t.Error("a price that was taken away is known")
	}
}

func TestLoadPricesRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"unknown key":        {"models: {a: {ratio: 1, ratoi: 2}}", "ratoi"},
		"unknown section":    {"model: {a: {ratio: 1}}", "model"},
		"twice":              {"models: {a: {ratio: 1}, a: {ratio: 2}}", "already defined"},
		"negative":           {"models: {a: {ratio: -1}}", `"a"`},
		"negative size":      {"models: {a: {per_call: 1, sizes: {x: -1}}}", `"a"`},
		"too fine":           {"models: {a: {ratio: 0.0000000001}}", "nine decimal places"},
		"no number":          {"models: {a: {ratio: cheap}}", "cheap"},
		"nothing":            {"models: {a: {cache: 1}}", `"a"`},
		"both":               {"models: {a: {ratio: 1, per_call: 1}}", "exclude"},
		"locked alone":       {"models: {a: {ratio: 1, locked: true}}", "locked"},
		"family in models":   {"models: {a*: {ratio: 1}}", "families"},
		"model in families":  {"families: {a: {ratio: 1}}", "ends in *"},
		"all models at once": {`families: {"*": {ratio: 1}}`, "before it"},
		"two documents":      {"models: {}\n---\nmodels: {}", "more than one"},
	} {
		if _, err := LoadPrices([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if list, err := LoadPrices(nil); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
}
