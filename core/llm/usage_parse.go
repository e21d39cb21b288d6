package llm

import (
	"math"

	"github.com/tidwall/gjson"
)

// OpenAIUsage reads a usage object in the words of OpenAI and of the vendors
// that follow it, and makes its overlapping numbers disjoint. ok is false when
// it says nothing (absent or all zero).
//
// Names: prompt_tokens or input_tokens, completion_tokens or output_tokens, with
// *_tokens_details (input_token_details in transcriptions). Cached input is
// prompt_tokens_details.cached_tokens, DeepSeek's prompt_cache_hit_tokens or
// Moonshot's cached_tokens; all of them are part of the prompt's count.
func OpenAIUsage(raw []byte) (u Usage, ok bool) {
	r := gjson.ParseBytes(raw)
	if !r.IsObject() {
		return Usage{}, false
	}
	if r.Get("type").Str == "duration" {
		u.Input = DurationTokens(r.Get("seconds").Num)
		return u, u.Input > 0
	}
	prompt, completion, total := Count(r, "prompt_tokens", "input_tokens"), Count(r, "completion_tokens", "output_tokens"), Count(r, "total_tokens")
	in := first(r, "prompt_tokens_details", "input_tokens_details", "input_token_details")
	out := first(r, "completion_tokens_details", "output_tokens_details", "output_token_details")
	if prompt == 0 && total > completion {
		prompt = total - completion // rerank and embeddings of some vendors
	}
	u.CacheRead = Count(in, "cached_tokens")
	if u.CacheRead == 0 {
		u.CacheRead = Count(r, "prompt_cache_hit_tokens", "cached_tokens")
	}
	u.CacheWrite = Count(in, "cached_creation_tokens", "cache_write_tokens", "cache_creation_tokens")
	u.ImageInput, u.AudioInput = Count(in, "image_tokens"), Count(in, "audio_tokens")
	u.SplitPrompt(prompt)

	u.Reasoning, u.AudioOutput = Count(out, "reasoning_tokens"), Count(out, "audio_tokens")
	if u.Reasoning > 0 && (u.Reasoning > completion || total > 0 && total == prompt+completion+u.Reasoning) {
		completion += u.Reasoning // xAI counts reasoning beside the completion
	}
	u.AudioOutput = min(u.AudioOutput, completion)
	u.Output = completion - u.AudioOutput
	return u, u.Total() > 0
}

// SplitPrompt makes Input what is left of a prompt's count after its parts, as
// New API does: never below zero, and no part is cut to fit.
func (u *Usage) SplitPrompt(prompt int64) {
	u.Input = max(0, prompt-u.CacheRead-u.CacheWrite-u.CacheWrite1h-u.ImageInput-u.AudioInput)
}

// DurationTokens is what a vendor that bills sound by time is charged as:
// New API's 1,000 tokens a minute of begun seconds.
func DurationTokens(seconds float64) int64 {
	if !(seconds > 0) || seconds > 1e9 {
		return 0
	}
	return int64(math.Round(math.Ceil(seconds) / 60 * 1000))
}

// Count is the first of the numbers that is there and above zero. A vendor's
// number is trusted up to 2^40, so that sums stay far from overflow.
func Count(r gjson.Result, names ...string) int64 {
	for _, name := range names {
		if v := r.Get(name); v.Type == gjson.Number && v.Num > 0 {
			return int64(min(v.Num, 1<<40))
		}
	}
	return 0
}

func first(r gjson.Result, names ...string) gjson.Result {
	for _, name := range names {
		if v := r.Get(name); v.IsObject() {
			return v
		}
	}
	return gjson.Result{}
}
