package llm

import (
	"math"

	"github.com/tidwall/gjson"
)

// The keys of a usage object and of its details; where several mean the same, the
// first one counts.
var (
	usageKeys = [...]string{
		"type", "seconds", // 0, 1
		"prompt_tokens", "input_tokens", // 2, 3
		"completion_tokens", "output_tokens", // 4, 5
		"total_tokens",                             // 6
		"prompt_cache_hit_tokens", "cached_tokens", // 7, 8
		"prompt_tokens_details", "input_tokens_details", "input_token_details", // 9 to 11
		"completion_tokens_details", "output_tokens_details", "output_token_details", // 12 to 14
	}
	inputKeys = [...]string{
		"cached_tokens",                                                         // 0
		"cached_creation_tokens", "cache_write_tokens", "cache_creation_tokens", // 1 to 3
		"image_tokens", "audio_tokens", // 4, 5
	}
	outputKeys = [...]string{"reasoning_tokens", "audio_tokens"}
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
	var top [len(usageKeys)]gjson.Result
	pick(r, usageKeys[:], top[:])
	if top[0].Str == "duration" {
		u.Input = DurationTokens(top[1].Num)
		return u, u.Input > 0
	}
	prompt, completion, total := firstCount(top[2:4]), firstCount(top[4:6]), firstCount(top[6:7])
	var in [len(inputKeys)]gjson.Result
	pick(firstObject(top[9:12]), inputKeys[:], in[:])
	var out [len(outputKeys)]gjson.Result
	pick(firstObject(top[12:15]), outputKeys[:], out[:])
	if prompt == 0 && total > completion {
		prompt = total - completion // rerank and embeddings of some vendors
	}
	u.CacheRead = firstCount(in[0:1])
	if u.CacheRead == 0 {
		u.CacheRead = firstCount(top[7:9])
	}
	u.CacheWrite = firstCount(in[1:4])
	u.ImageInput, u.AudioInput = firstCount(in[4:5]), firstCount(in[5:6])
	u.SplitPrompt(prompt)

	u.Reasoning, u.AudioOutput = firstCount(out[0:1]), firstCount(out[1:2])
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
		if n := count(r.Get(name)); n > 0 {
			return n
		}
	}
	return 0
}

func count(v gjson.Result) int64 {
	if v.Type == gjson.Number && v.Num > 0 {
		return int64(min(v.Num, 1<<40))
	}
	return 0
}

func firstCount(list []gjson.Result) int64 {
	for _, v := range list {
		if n := count(v); n > 0 {
			return n
		}
	}
	return 0
}

func firstObject(list []gjson.Result) gjson.Result {
	for _, v := range list {
		if v.IsObject() {
			return v
		}
	}
	return gjson.Result{}
}

// pick looks the members of an object up by their keys in one pass; the first of
// those with the same key counts.
func pick(r gjson.Result, keys []string, to []gjson.Result) {
	if !r.IsObject() {
		return
	}
	r.ForEach(func(key, v gjson.Result) bool {
		for i, k := range keys {
			if k == key.Str {
				if !to[i].Exists() {
					to[i] = v
				}
				break
			}
		}
		return true
	})
}
