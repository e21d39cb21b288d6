package ledger

import (
	"math"
	"math/big"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

func builtin(t testing.TB) map[string]*core.Price {
	t.Helper()
	text, err := os.ReadFile("../../configs/prices.yaml")
	if err != nil {
		t.Fatal(err)
	}
	list, err := LoadPrices(text)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func snapshot(t testing.TB, rows core.Rows) *core.Snapshot {
	t.Helper()
	s, err := core.NewSnapshot(1, "e", rows, builtin(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func ratio(text string) *core.Ratio { r := core.MustRatio(text); return &r }

// TestQuoteByHand compares with amounts worked out by hand. Unit: 500,000 = 1 USD;
// a model of ratio 1 costs one unit a token.
func TestQuoteByHand(t *testing.T) {
	s := snapshot(t, core.Rows{})
	tools := s.Options.ToolPrices
	in := func(n int64) llm.Usage { return llm.Usage{Input: n} }
	io := func(i, o int64) llm.Usage { return llm.Usage{Input: i, Output: o} }
	tool := func(u llm.Usage, name string, n int64) llm.Usage {
		u.Tools = append(u.Tools, llm.ToolCalls{Name: name, Calls: n})
		return u
	}
	cases := []struct {
		name  string
		model string
		group string
		usage llm.Usage
		terms Terms
		want  int64
	}{
		// input and output
		{"gpt-4o input", "gpt-4o", "1", in(1000), Terms{}, 1250},                                           // 1000*1.25
		{"gpt-4o in out", "gpt-4o", "1", io(1000, 500), Terms{}, 3750},                                     // 1.25*(1000+500*4)
		{"gpt-4o-mini in out", "gpt-4o-mini", "1", io(1000, 500), Terms{}, 225},                            // 0.075*(1000+2000)
		{"gpt-4.1 completion 4", "gpt-4.1", "1", io(10, 10), Terms{}, 50},                                  // 1*(10+40)
		{"gpt-4 guess 2", "gpt-4", "1", io(100, 100), Terms{}, 4500},                                       // 15*(100+200)
		{"gpt-4-turbo locked 3", "gpt-4-turbo", "1", io(100, 100), Terms{}, 2000},                          // 5*(100+300)
		{"gpt-3.5-turbo locked 3", "gpt-3.5-turbo", "1", io(1000, 1000), Terms{}, 1000},                    // 0.25*(1000+3000)
		{"gpt-3.5-turbo-1106 locked 2", "gpt-3.5-turbo-1106", "1", io(1000, 1000), Terms{}, 1500},          // 0.5*(1000+2000)
		{"gpt-3.5-turbo-16k locked 4/3", "gpt-3.5-turbo-16k", "1", io(3000, 3000), Terms{}, 10500},         // 1.5*(3000+3999.999999)=10499.9999985
		{"gpt-5 completion 8", "gpt-5", "1", io(16, 8), Terms{}, 50},                                       // 0.625*(16+64)
		{"gpt-5.4 completion 6", "gpt-5.4", "1", io(4, 4), Terms{}, 35},                                    // 1.25*(4+24)
		{"o3 completion 4", "o3", "1", io(100, 25), Terms{}, 200},                                          // 1*(100+100)
		{"o4-mini", "o4-mini", "1", io(100, 100), Terms{}, 275},                                            // 0.55*(100+400)
		{"reasoning is output", "o3", "1", llm.Usage{Input: 100, Output: 25, Reasoning: 20}, Terms{}, 200}, // as above
		{"claude sonnet", "claude-sonnet-4-5", "1", io(1000, 200), Terms{}, 3000},                          // 1.5*(1000+1000)
		{"claude opus 4.1", "claude-opus-4-1", "1", io(100, 20), Terms{}, 1500},                            // 7.5*(100+100)
		{"claude haiku 4.5", "claude-haiku-4-5", "1", io(100, 20), Terms{}, 100},                           // 0.5*200
		{"gemini-2.5-pro", "gemini-2.5-pro", "1", io(800, 100), Terms{}, 1000},                             // 0.625*(800+800)
		{"gemini-2.5-flash 25/3", "gemini-2.5-flash", "1", io(0, 3000), Terms{}, 3750},                     // 0.15*3000*8.333333333=3749.99999985
		{"gemini-2.0-flash", "gemini-2.0-flash", "1", io(1000, 250), Terms{}, 100},                         // 0.05*(1000+1000)
		{"deepseek-chat", "deepseek-chat", "1", io(1000, 1000), Terms{}, 675},                              // 0.135*5000
		{"embedding", "text-embedding-3-small", "1", in(12345), Terms{}, 123},                              // 123.45
		{"whisper", "whisper-1", "1", in(7), Terms{}, 105},                                                 // 15*7
		{"tts", "tts-1", "1", in(11), Terms{}, 83},                                                         // 82.5, half away from zero
		{"mistral locked 3", "mistral-large-2411", "1", io(10, 10), Terms{}, 40},                           // 1*(10+30)
		// caches
		{"openai cache 0.5", "gpt-4o", "1", llm.Usage{Input: 600, CacheRead: 400, Output: 100}, Terms{}, 1500},                                 // 1.25*(600+200+400)
		{"openai cache 0.25", "gpt-4.1", "1", llm.Usage{Input: 600, CacheRead: 400}, Terms{}, 700},                                             // 600+100
		{"gpt-5 cache 0.1", "gpt-5", "1", llm.Usage{Input: 100, CacheRead: 1000}, Terms{}, 125},                                                // 0.625*200
		{"claude cache read 0.1", "claude-sonnet-4", "1", llm.Usage{Input: 100, CacheRead: 1000, ClaudeStyle: true}, Terms{}, 300},             // 1.5*(100+100)
		{"claude cache write 5m", "claude-sonnet-4", "1", llm.Usage{Input: 100, CacheWrite: 1000, ClaudeStyle: true}, Terms{}, 2025},           // 1.5*(100+1250)
		{"claude cache write 1h", "claude-sonnet-4", "1", llm.Usage{Input: 100, CacheWrite1h: 1000, ClaudeStyle: true}, Terms{}, 3150},         // 1.5*(100+2000)
		{"claude all", "claude-sonnet-4", "1", llm.Usage{Input: 10, CacheRead: 100, CacheWrite: 8, CacheWrite1h: 5, Output: 20}, Terms{}, 210}, // 1.5*(10+10+10+10+100)
		{"cache without a ratio costs 1", "qwen-plus", "1", llm.Usage{Input: 10, CacheRead: 40}, Terms{}, 10},                                  // 0.2*50
		// images and audio
		{"gpt-image-1 text", "gpt-image-1", "1", io(20, 100), Terms{}, 2050},                                                            // 2.5*(20+800)
		{"gpt-image-1 image input 2", "gpt-image-1", "1", llm.Usage{Input: 20, ImageInput: 50, Output: 100}, Terms{}, 2300},             // 2.5*(20+100+800)
		{"image without a ratio costs 1", "gpt-4o", "1", llm.Usage{Input: 20, ImageInput: 20}, Terms{}, 50},                             // 1.25*40
		{"audio in and out", "gpt-4o-audio-preview", "1", llm.Usage{Input: 8, AudioInput: 10, AudioOutput: 5, Output: 2}, Terms{}, 420}, // 1.25*(8+160+160+8)
		{"mini audio 66.67", "gpt-4o-mini-audio-preview", "1", llm.Usage{AudioInput: 100}, Terms{}, 500},                                // 0.075*6667=500.025
		{"mini tts", "gpt-4o-mini-tts", "1", llm.Usage{Input: 100, AudioOutput: 40}, Terms{}, 330},                                      // 0.3*(100+40*25*1)
		{"transcribe audio 2.4", "gpt-4o-transcribe", "1", llm.Usage{AudioInput: 100, Output: 10}, Terms{}, 350},                        // 1.25*(240+40)
		{"gemini audio absolute", "gemini-2.5-flash", "1", llm.Usage{Input: 100, AudioInput: 1000}, Terms{}, 515},                       // 0.15*100 + 1 USD/1M*1000*0.5
		{"gemini audio by group", "gemini-2.5-flash", "0.5", llm.Usage{Input: 100, AudioInput: 1000}, Terms{}, 258},                     // 7.5+250=257.5
		{"gemini audio 0.7", "gemini-2.0-flash", "1", llm.Usage{AudioInput: 1000}, Terms{}, 350},                                        // 0.7*0.5*1000
		// group factors
		{"group 0.5", "gpt-4o", "0.5", io(1000, 500), Terms{}, 1875}, // 3750/2
		{"group 1.5", "gpt-4o", "1.5", io(1000, 500), Terms{}, 5625}, // 3750*1.5
		{"group 0", "gpt-4o", "0", io(1000, 500), Terms{}, 0},
		{"group 0.333333333", "gpt-4o", "0.333333333", in(3000), Terms{}, 1250}, // 1249.99999875
		// per call
		{"dall-e-3", "dall-e-3", "1", llm.Usage{}, Terms{Calls: 1, Size: "1024x1024"}, 20000}, // 0.04*500000
		{"dall-e-3 no size", "dall-e-3", "1", llm.Usage{}, Terms{}, 20000},
		{"dall-e-3 wide", "dall-e-3", "1", llm.Usage{}, Terms{Calls: 1, Size: "1792x1024"}, 40000},                   // *2
		{"dall-e-3 hd", "dall-e-3", "1", llm.Usage{}, Terms{Calls: 1, Size: "1024x1024", Quality: "hd"}, 40000},      // *2
		{"dall-e-3 hd wide", "dall-e-3", "1", llm.Usage{}, Terms{Calls: 1, Size: "1024x1792", Quality: "hd"}, 60000}, // *2*1.5
		{"dall-e-2 256 three", "dall-e-2", "1", llm.Usage{}, Terms{Calls: 3, Size: "256x256"}, 12000},                // 0.02*0.4*3*500000
		{"dall-e-2 512 group 2", "dall-e-2", "2", llm.Usage{}, Terms{Calls: 1, Size: "512x512"}, 9000},               // 0.02*0.45*2*500000
		{"dall-e-2 hd is no quality of it", "dall-e-2", "1", llm.Usage{}, Terms{Quality: "hd"}, 10000},
		{"rerank", "rerank-v3.5", "1", in(5), Terms{}, 1000}, // 0.002*500000
		{"per call ignores tokens", "dall-e-3", "1", io(1e6, 1e6), Terms{}, 20000},
		{"other unit", "dall-e-3", "1", llm.Usage{}, Terms{QuotaPerUnit: 1000}, 40}, // 0.04*1000
		{"unit does not change tokens", "gpt-4o", "1", in(1000), Terms{QuotaPerUnit: 1000}, 1250},
		// tools
		{"web_search", "claude-sonnet-4", "1", tool(in(100), "web_search", 2), Terms{ToolPrices: tools}, 10150},                                   // 150 + 10/1000*2*500000
		{"web_search_preview dear", "gpt-4o", "1", tool(in(100), "web_search_preview", 1), Terms{Model: "gpt-4o-mini", ToolPrices: tools}, 12625}, // 125 + 25/1000*500000
		{"web_search_preview plain", "o3", "1", tool(in(100), "web_search_preview", 1), Terms{Model: "o3", ToolPrices: tools}, 5100},
		{"file_search by group", "gpt-4.1", "0.5", tool(in(100), "file_search", 4), Terms{Model: "gpt-4.1", ToolPrices: tools}, 2550}, // 50 + 2.5/1000*4*0.5*500000
		{"tool without tokens", "gpt-4.1", "1", tool(llm.Usage{}, "google_search", 1), Terms{ToolPrices: tools}, 7000},                // 14/1000*500000
		{"two tools", "gpt-4.1", "1", tool(tool(in(1), "web_search", 1), "file_search", 1), Terms{ToolPrices: tools}, 6251},           // 1+5000+1250
		{"unknown tool", "gpt-4.1", "1", tool(in(10), "nobody", 3), Terms{ToolPrices: tools}, 10},
		{"tool beside per call", "dall-e-3", "1", tool(llm.Usage{}, "web_search", 1), Terms{ToolPrices: tools}, 25000},
		// zero, minimum, rounding
		{"no usage", "gpt-4o", "1", llm.Usage{}, Terms{}, 0},
		{"minimum 1", "text-embedding-3-small", "1", in(1), Terms{}, 1}, // 0.01
		{"free model", "glm-4.5-flash", "1", io(1e6, 1e6), Terms{}, 0},
		{"cached for nothing still 1", "zero-cache", "1", llm.Usage{CacheRead: 5}, Terms{}, 1},
		{"round half up", "gpt-4.1", "0.5", in(5), Terms{}, 3},                                   // 2.5
		{"round below half", "gpt-4o-mini", "1", in(99), Terms{}, 7},                             // 7.425
		{"one rounding only", "gpt-4o-mini", "1", llm.Usage{Input: 6, CacheRead: 2}, Terms{}, 1}, // 0.45+0.075=0.525; apart 0+0
		{"negative counts are nothing", "gpt-4.1", "1", llm.Usage{Input: -5, Output: 5}, Terms{}, 20},
		{"saturates", "gpt-4", "9000000000", in(math.MaxInt64), Terms{}, core.MaxQuota},
		{"saturates by overflow", "dear", "9000000000", llm.Usage{AudioOutput: math.MaxInt64, Input: math.MaxInt64}, Terms{}, core.MaxQuota},
	}
	own := map[string]*core.Price{
		"zero-cache": {Ratio: ratio("1"), Cache: ratio("0")},
		"dear":       {Ratio: ratio("9000000000"), Audio: ratio("9000000000"), AudioCompletion: ratio("9000000000")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := own[c.model]
			if p == nil {
				var ok bool
				if p, ok = s.Price(c.model); !ok {
					t.Fatalf("%s has no price", c.model)
				}
			}
			if got := Quote(p, core.MustRatio(c.group), &c.usage, c.terms); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func drawRatio(t *rapid.T, name string) *core.Ratio {
	if rapid.Bool().Draw(t, name+" unset") {
		return nil
	}
	r := core.Ratio(rapid.Int64Range(0, 100*int64(core.RatioOne)).Draw(t, name))
	return &r
}

func drawPrice(t *rapid.T) *core.Price {
	p := &core.Price{Ratio: drawRatio(t, "ratio"), Completion: drawRatio(t, "completion"), Cache: drawRatio(t, "cache"),
		CreateCache: drawRatio(t, "create"), Image: drawRatio(t, "image"), Audio: drawRatio(t, "audio"), AudioCompletion: drawRatio(t, "audio completion")}
	if rapid.IntRange(0, 4).Draw(t, "usd") == 0 {
		p.AudioInputUSD = drawRatio(t, "audio usd")
	}
	if rapid.IntRange(0, 4).Draw(t, "call") == 0 {
		p.PerCall = drawRatio(t, "per call")
	}
	return p
}

func drawUsage(t *rapid.T) llm.Usage {
	n := func(name string) int64 { return rapid.Int64Range(0, 3_000_000).Draw(t, name) }
	u := llm.Usage{Input: n("in"), CacheRead: n("read"), CacheWrite: n("write"), CacheWrite1h: n("write1h"), ImageInput: n("image"),
		AudioInput: n("audio in"), Output: n("out"), AudioOutput: n("audio out")}
	for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"web_search", "file_search", "other"}), 0, 3).Draw(t, "tools") {
		u.Tools = append(u.Tools, llm.ToolCalls{Name: name, Calls: rapid.Int64Range(0, 50).Draw(t, "calls")})
	}
	return u
}

// reference is the formula in rationals.
func reference(p *core.Price, g core.Ratio, u *llm.Usage, t Terms) int64 {
	rat := func(r *core.Ratio, def string) *big.Rat {
		if r == nil {
			x, _ := new(big.Rat).SetString(def)
			return x
		}
		return big.NewRat(int64(*r), int64(core.RatioOne))
	}
	mul := func(xs ...*big.Rat) *big.Rat {
		out := big.NewRat(1, 1)
		for _, x := range xs {
			out.Mul(out, x)
		}
		return out
	}
	n := func(i int64) *big.Rat { return big.NewRat(i, 1) }
	group := rat(&g, "")
	sum := new(big.Rat)
	priced := false
	used := u.Total() > 0
	toolUsed := false
	for _, c := range u.Tools {
		toolUsed = toolUsed || c.Calls > 0
		price := toolPrice(t.ToolPrices, c.Name, t.Model)
		sum.Add(sum, mul(rat(&price, ""), big.NewRat(1, 1000), n(c.Calls), group, n(t.QuotaPerUnit)))
	}
	if p.PerCall != nil {
		priced = *p.PerCall != 0
		sum.Add(sum, mul(rat(p.PerCall, ""), n(t.QuotaPerUnit), group, n(t.Calls)))
	} else {
		if !used && !toolUsed {
			return 0
		}
		m := rat(p.Ratio, "0")
		priced = m.Sign() != 0
		w := new(big.Rat)
		w.Add(w, n(u.Input))
		w.Add(w, mul(n(u.CacheRead), rat(p.Cache, "1")))
		w.Add(w, mul(n(u.CacheWrite), rat(p.CreateCache, "1.25")))
		w.Add(w, mul(n(u.CacheWrite1h), rat(p.CreateCache, "1.25"), big.NewRat(8, 5)))
		w.Add(w, mul(n(u.ImageInput), rat(p.Image, "1")))
		w.Add(w, mul(n(u.Output), rat(p.Completion, "1")))
		w.Add(w, mul(n(u.AudioOutput), rat(p.Audio, "1"), rat(p.AudioCompletion, "1")))
		if p.AudioInputUSD == nil {
			w.Add(w, mul(n(u.AudioInput), rat(p.Audio, "1")))
		} else {
			sum.Add(sum, mul(n(u.AudioInput), rat(p.AudioInputUSD, ""), big.NewRat(1, 1_000_000), group, n(t.QuotaPerUnit)))
		}
		sum.Add(sum, mul(w, m, group))
	}
	sum.Add(sum, big.NewRat(1, 2))
	q := new(big.Int).Quo(sum.Num(), sum.Denom()).Int64()
	if q == 0 && priced && g != 0 {
		return 1
	}
	return q
}

func TestQuoteProperties(t *testing.T) {
	tools := map[string]core.Ratio{"web_search": core.MustRatio("10"), "file_search": core.MustRatio("2.5"), "web_search:m*": core.MustRatio("25")}
	rapid.Check(t, func(t *rapid.T) {
		p, u := drawPrice(t), drawUsage(t)
		g := core.Ratio(rapid.Int64Range(0, 10*int64(core.RatioOne)).Draw(t, "group"))
		terms := Terms{Model: rapid.SampledFrom([]string{"m-1", "other"}).Draw(t, "model"), ToolPrices: tools,
			QuotaPerUnit: rapid.Int64Range(1, 1_000_000).Draw(t, "unit"), Calls: rapid.Int64Range(1, 10).Draw(t, "n")}
		got := Quote(p, g, &u, terms)
		if want := reference(p, g, &u, terms); got != want {
			t.Fatalf("got %d, the formula in rationals says %d", got, want)
		}
		if got < 0 {
			t.Fatal("negative")
		}
		more := u
		for _, f := range []*int64{&more.Input, &more.CacheRead, &more.CacheWrite, &more.CacheWrite1h, &more.ImageInput, &more.AudioInput, &more.Output, &more.AudioOutput} {
			*f += rapid.Int64Range(0, 1000).Draw(t, "more")
		}
		if Quote(p, g, &more, terms) < got {
			t.Fatal("more usage costs less")
		}
		if Quote(p, g+core.Ratio(rapid.Int64Range(0, int64(core.RatioOne)).Draw(t, "dearer")), &u, terms) < got {
			t.Fatal("a dearer group costs less")
		}
		// One rounding: the parts, each rounded, are off by at most their number.
		if p.PerCall == nil {
			parts := []llm.Usage{{Input: u.Input, CacheRead: u.CacheRead}, {CacheWrite: u.CacheWrite, CacheWrite1h: u.CacheWrite1h, ImageInput: u.ImageInput},
				{AudioInput: u.AudioInput, AudioOutput: u.AudioOutput, Output: u.Output}, {Tools: u.Tools}}
			var sum int64
			for i := range parts {
				sum += Quote(p, g, &parts[i], terms)
			}
			if d := sum - got; d < -4 || d > 4 {
				t.Fatalf("parts sum to %d, the whole to %d", sum, got)
			}
		}
	})
}

func TestQuoteDoesNotAllocate(t *testing.T) {
	p := &core.Price{Ratio: ratio("1.25"), Completion: ratio("4")}
	u := llm.Usage{Input: 1000, Output: 500, CacheRead: 10}
	if n := testing.AllocsPerRun(100, func() { Quote(p, core.RatioOne, &u, Terms{}) }); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func BenchmarkQuote(b *testing.B) {
	p := &core.Price{Ratio: ratio("1.25"), Completion: ratio("4"), Cache: ratio("0.5"), Audio: ratio("16"), AudioCompletion: ratio("2")}
	tools := map[string]core.Ratio{"web_search": core.MustRatio("10"), "web_search_preview": core.MustRatio("10"), "web_search_preview:gpt-4o*": core.MustRatio("25"), "file_search": core.MustRatio("2.5")}
	text := llm.Usage{Input: 1000, Output: 500, CacheRead: 10}
	full := llm.Usage{Input: 1000, Output: 500, CacheRead: 10, CacheWrite: 5, CacheWrite1h: 6, AudioInput: 7, AudioOutput: 8, ImageInput: 9, Tools: []llm.ToolCalls{{Name: "web_search_preview", Calls: 3}}}
	for name, u := range map[string]*llm.Usage{"text": &text, "full": &full} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Quote(p, core.RatioOne, u, Terms{Model: "gpt-4o", ToolPrices: tools})
			}
		})
	}
}
