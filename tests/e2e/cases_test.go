package e2e

// What each case costs was worked out by hand from the published formulas; the
// sums stand beside the numbers. One ratio point is one quota unit a token, so
// that a model of ratio 1 costs a unit for each prompt token.

// The prices that the suite sets through the options API.
var priceOptions = map[string]string{
	"ModelRatio": `{"plain":1,"half":0.5,"cachy":2,"vision":5,"audio":1.25,"tiny":0.001,"free":0,"big":75,"third":0.333333333,
		"claude-x":1.5,"claude-y":2.5,"gemini-x":0.625,"embed":0.01,"embed-2":1,"rank":0.025,"draw":2.5,"stt":3,"moderate":0.1,"old":0.75}`,
	"CompletionRatio":      `{"plain":3,"half":2.5,"cachy":4,"vision":8,"audio":4,"big":4,"third":3,"claude-x":5,"claude-y":5,"gemini-x":8,"draw":8,"stt":4,"old":2}`,
	"CacheRatio":           `{"cachy":0.1,"claude-x":0.1,"claude-y":0.1,"gemini-x":0.25,"half":0.5}`,
	"CreateCacheRatio":     `{"cachy":1.25,"claude-x":1.25,"claude-y":1.25}`,
	"ImageRatio":           `{"vision":2,"draw":2}`,
	"AudioRatio":           `{"audio":16,"stt":2}`,
	"AudioCompletionRatio": `{"audio":2}`,
	"ModelPrice":           `{"dall-e-3":0.04,"percall":0.04,"freecall":0,"speak":0.015,"paint":0.02}`,
	"GroupRatio":           `{"default":1,"vip":0.5,"gold":1.5}`,
	"UserUsableGroups":     `{"default":"everyone","vip":"half price","gold":"dear"}`,
	"GroupGroupRatio":      `{"vip":{"default":0.8}}`,
	"PreConsumedQuota":     `0`,
}

// billingCase is one request and what it must cost.
type billingCase struct {
	name   string
	path   string
	body   string // JSON; or for multipart the fields as JSON object
	form   bool   // send body's fields as multipart/form-data with a file
	group  string // of the token; "" = the user's
	user   string // "root" (group default) or "vip"
	quota  int64
	prompt int64 // log row; -1 = not compared
	output int64
	est    bool // must be flagged as estimated
}

const (
	chatPath     = "/v1/chat/completions"
	claudePath   = "/v1/messages"
	geminiPath   = "/v1beta/models/gemini-x:generateContent"
	geminiStream = "/v1beta/models/gemini-x:streamGenerateContent?alt=sse"
	geminiArray  = "/v1beta/models/gemini-x:streamGenerateContent"
	msgs         = `"messages":[{"role":"user","content":"Hello"}]`
	contents     = `"contents":[{"parts":[{"text":"Hello"}]}]`
)

func chat(model, usage string) string {
	return `{"model":"` + model + `",` + msgs + `,"max_tokens":1000,"fake":{"usage":` + usage + `}}`
}

func chatStream(model, usage string) string {
	return `{"model":"` + model + `","stream":true,` + msgs + `,"max_tokens":1000,"fake":{"usage":` + usage + `}}`
}

func claudeBody(model, usage string) string {
	return `{"model":"` + model + `","max_tokens":1000,` + msgs + `,"fake":{"usage":` + usage + `}}`
}

func claudeStream(model, usage string) string {
	return `{"model":"` + model + `","max_tokens":1000,"stream":true,` + msgs + `,"fake":{"usage":` + usage + `}}`
}

func geminiBody(usage string) string { return `{` + contents + `,"fake":{"usage":` + usage + `}}` }

var billingCases = []billingCase{
	// Ratio and completion ratio.
	{name: "ratio 1, completion 3", path: chatPath, body: chat("plain", `{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}`), quota: 250, prompt: 100, output: 50},                                                            // 100 + 50*3
	{name: "the same streamed", path: chatPath, body: chatStream("plain", `{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}`), quota: 250, prompt: 100, output: 50},                                                          // 100 + 50*3
	{name: "ratio 0.5, completion 2.5", path: chatPath, body: chat("half", `{"prompt_tokens":101,"completion_tokens":10,"total_tokens":111}`), quota: 63, prompt: 101, output: 10},                                                          // 0.5*(101+25) = 63
	{name: "half rounds away from zero", path: chatPath, body: chat("half", `{"prompt_tokens":101,"completion_tokens":0,"total_tokens":101}`), quota: 51, prompt: 101, output: 0},                                                           // 50.5 -> 51
	{name: "only output", path: chatPath, body: chat("plain", `{"prompt_tokens":0,"completion_tokens":7,"total_tokens":7}`), quota: 21, prompt: 0, output: 7},                                                                               // 7*3
	{name: "ratio with nine places", path: chatPath, body: chat("third", `{"prompt_tokens":3000000,"completion_tokens":0,"total_tokens":3000000}`), quota: 1000000, prompt: 3000000, output: 0},                                             // 999999.999 -> 1000000
	{name: "beyond 32 bits", path: chatPath, body: chat("big", `{"prompt_tokens":20000000,"completion_tokens":10000000,"total_tokens":30000000}`), quota: 4500000000, prompt: 20000000, output: 10000000},                                   // 75*(20e6+40e6)
	{name: "minimum 1", path: chatPath, body: chat("tiny", `{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}`), quota: 1, prompt: 1, output: 1},                                                                                   // 0.002 -> 0 -> 1
	{name: "zeros are no report", path: chatPath, body: chat("plain", `{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`), quota: -1, prompt: -1, output: -1, est: true},                                                          // text came back, so it is counted
	{name: "free model", path: chatPath, body: chat("free", `{"prompt_tokens":1000,"completion_tokens":1000,"total_tokens":2000}`), quota: 0, prompt: 1000, output: 1000},                                                                   // 0
	{name: "reasoning is part of the output", path: chatPath, body: chat("plain", `{"prompt_tokens":10,"completion_tokens":40,"total_tokens":50,"completion_tokens_details":{"reasoning_tokens":30}}`), quota: 130, prompt: 10, output: 40}, // 10 + 40*3
	{name: "completions", path: "/v1/completions", body: `{"model":"old","prompt":"Hello","max_tokens":100,"fake":{"usage":{"prompt_tokens":20,"completion_tokens":8,"total_tokens":28}}}`, quota: 27, prompt: 20, output: 8},               // 0.75*(20+16) = 27

	// Caches, OpenAI style: the prompt includes what was cached.
	{name: "cached tokens", path: chatPath, body: chat("cachy", `{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":600}}`), quota: 1720, prompt: 1000, output: 100},                // 2*(400 + 600*0.1 + 100*4) = 2*860
	{name: "cached tokens streamed", path: chatPath, body: chatStream("cachy", `{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100,"prompt_tokens_details":{"cached_tokens":600}}`), quota: 1720, prompt: 1000, output: 100}, // as above
	{name: "all cached", path: chatPath, body: chat("half", `{"prompt_tokens":200,"completion_tokens":4,"total_tokens":204,"prompt_tokens_details":{"cached_tokens":200}}`), quota: 55, prompt: 200, output: 4},                             // 0.5*(100 + 10)
	{name: "deepseek cache hit", path: chatPath, body: chat("cachy", `{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_cache_hit_tokens":80,"prompt_cache_miss_tokens":20}`), quota: 136, prompt: 100, output: 10},    // 2*(20 + 8 + 40)
	{name: "more cached than prompt", path: chatPath, body: chat("cachy", `{"prompt_tokens":50,"completion_tokens":0,"total_tokens":50,"prompt_tokens_details":{"cached_tokens":50}}`), quota: 10, prompt: 50, output: 0},                   // 2*(0 + 5)

	// Images and audio in chat.
	{name: "image input", path: chatPath, body: chat("vision", `{"prompt_tokens":300,"completion_tokens":10,"total_tokens":310,"prompt_tokens_details":{"image_tokens":200}}`), quota: 2900, prompt: 300, output: 10},                                                                                       // 5*(100 + 200*2 + 10*8) = 5*580
	{name: "audio in and out", path: chatPath, body: chat("audio", `{"prompt_tokens":110,"completion_tokens":60,"total_tokens":170,"prompt_tokens_details":{"audio_tokens":100,"text_tokens":10},"completion_tokens_details":{"audio_tokens":40,"text_tokens":20}}`), quota: 3713, prompt: 110, output: 60}, // 1.25*(10 + 20*4 + 100*16 + 40*16*2) = 1.25*2970 = 3712.5 -> 3713

	// Per call.
	{name: "per call", path: chatPath, body: chat("percall", `{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}`), quota: 20000, prompt: 9, output: 9}, // 0.04*500000
	{name: "per call, free", path: chatPath, body: chat("freecall", `{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}`), quota: 0, prompt: 9, output: 9},
	{name: "images: two of them", path: "/v1/images/generations", body: `{"model":"paint","prompt":"a cat","n":2,"size":"1024x1024"}`, quota: 20000, prompt: -1, output: -1, est: true},                                                                                                                              // 0.02*500000*2
	{name: "dall-e-3 hd, tall", path: "/v1/images/generations", body: `{"model":"dall-e-3","prompt":"a cat","n":1,"size":"1024x1792","quality":"hd"}`, quota: 60000, prompt: -1, output: -1, est: true},                                                                                                              // 0.04*500000 * 2 * 1.5
	{name: "dall-e-3 hd, square", path: "/v1/images/generations", body: `{"model":"dall-e-3","prompt":"a cat","size":"1024x1024","quality":"hd"}`, quota: 40000, prompt: -1, output: -1, est: true},                                                                                                                  // 0.04*500000 * 1 * 2
	{name: "image tokens", path: "/v1/images/generations", body: `{"model":"draw","prompt":"a cat","fake":{"usage":{"total_tokens":1050,"input_tokens":50,"output_tokens":1000,"input_tokens_details":{"text_tokens":10,"image_tokens":40}}}}`, quota: 20225, prompt: 50, output: 1000},                              // 2.5*(10 + 40*2 + 8000) = 2.5*8090
	{name: "speech per call", path: "/v1/audio/speech", body: `{"model":"speak","input":"Hello there","voice":"alloy"}`, quota: 7500, prompt: -1, output: -1, est: true},                                                                                                                                             // 0.015*500000
	{name: "image edit", path: "/v1/images/edits", form: true, body: `{"model":"paint","prompt":"a hat on it"}`, quota: 10000, prompt: -1, output: -1, est: true},                                                                                                                                                    // 0.02*500000
	{name: "transcription", path: "/v1/audio/transcriptions", form: true, body: `{"model":"stt","fake":"{\"usage\":{\"type\":\"tokens\",\"input_tokens\":114,\"input_token_details\":{\"text_tokens\":14,\"audio_tokens\":100},\"output_tokens\":45,\"total_tokens\":159}}"}`, quota: 1182, prompt: 114, output: 45}, // 3*(14 + 100*2 + 45*4) = 3*394
	{name: "translation", path: "/v1/audio/translations", form: true, body: `{"model":"speak"}`, quota: 7500, prompt: -1, output: -1},                                                                                                                                                                                // 0.015*500000

	// Embeddings, moderations, rerank.
	{name: "embeddings", path: "/v1/embeddings", body: `{"model":"embed","input":"Hello","fake":{"usage":{"prompt_tokens":5000,"total_tokens":5000}}}`, quota: 50, prompt: 5000, output: 0},  // 0.01*5000
	{name: "embeddings, minimum 1", path: "/v1/embeddings", body: `{"model":"embed","input":"Hello","fake":{"usage":{"prompt_tokens":5,"total_tokens":5}}}`, quota: 1, prompt: 5, output: 0}, // 0.05 -> 1
	{name: "moderation, estimated", path: "/v1/moderations", body: `{"model":"moderate","input":"Hello"}`, quota: 1, prompt: -1, output: -1, est: true},                                      // a few tokens * 0.1 -> 1
	{name: "rerank", path: "/v1/rerank", body: `{"model":"rank","query":"q","documents":["a","b"],"fake":{"usage":{"total_tokens":4000}}}`, quota: 100, prompt: 4000, output: 0},             // 0.025*4000

	// Responses.
	{name: "responses", path: "/v1/responses", body: `{"model":"cachy","input":"Hello","max_output_tokens":500,"fake":{"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":50},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":120}}}`, quota: 270, prompt: 100, output: 20},                        // 2*(50 + 5 + 80)
	{name: "responses streamed", path: "/v1/responses", body: `{"model":"cachy","input":"Hello","stream":true,"max_output_tokens":500,"fake":{"usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":50},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":120}}}`, quota: 270, prompt: 100, output: 20}, // as above

	// Claude: the prompt leaves cached and written tokens out.
	{name: "claude", path: claudePath, body: claudeBody("claude-x", `{"input_tokens":100,"output_tokens":20}`), quota: 300, prompt: 100, output: 20},                                                                                                                                                                        // 1.5*(100+100)
	{name: "claude cache read", path: claudePath, body: claudeBody("claude-x", `{"input_tokens":10,"cache_read_input_tokens":1000,"output_tokens":20}`), quota: 315, prompt: 10, output: 20},                                                                                                                                // 1.5*(10 + 100 + 100)
	{name: "claude cache write 5 minutes", path: claudePath, body: claudeBody("claude-x", `{"input_tokens":10,"cache_creation_input_tokens":400,"cache_creation":{"ephemeral_5m_input_tokens":400,"ephemeral_1h_input_tokens":0},"output_tokens":0}`), quota: 765, prompt: 10, output: 0},                                   // 1.5*(10 + 400*1.25)
	{name: "claude cache write 1 hour", path: claudePath, body: claudeBody("claude-x", `{"input_tokens":10,"cache_creation_input_tokens":400,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":400},"output_tokens":0}`), quota: 1215, prompt: 10, output: 0},                                     // 1.5*(10 + 400*1.25*1.6)
	{name: "claude both writes and a read", path: claudePath, body: claudeBody("claude-y", `{"input_tokens":8,"cache_read_input_tokens":100,"cache_creation_input_tokens":300,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":200},"output_tokens":10}`), quota: 1483, prompt: 8, output: 10}, // 2.5*(8 + 10 + 125 + 400 + 50) = 2.5*593 = 1482.5 -> 1483
	{name: "claude undivided cache write", path: claudePath, body: claudeBody("claude-x", `{"input_tokens":10,"cache_creation_input_tokens":400,"output_tokens":0}`), quota: 765, prompt: 10, output: 0},                                                                                                                    // 1.5*(10 + 400*1.25)
	{name: "claude streamed", path: claudePath, body: claudeStream("claude-x", `{"input_tokens":10,"cache_read_input_tokens":1000,"output_tokens":20}`), quota: 315, prompt: 10, output: 20},                                                                                                                                // 1.5*(10 + 100 + 100)
	{name: "claude web search", path: claudePath, body: claudeBody("claude-x", `{"input_tokens":100,"output_tokens":20,"server_tool_use":{"web_search_requests":2}}`), quota: 10300, prompt: 100, output: 20},                                                                                                               // 300 + 2*10/1000*500000
	{name: "claude count_tokens is free", path: "/v1/messages/count_tokens", body: `{"model":"claude-x",` + msgs + `}`, quota: 0, prompt: -1, output: -1},

	// Gemini: cached is part of the prompt, thoughts come on top of the candidates.
	{name: "gemini", path: geminiPath, body: geminiBody(`{"promptTokenCount":80,"candidatesTokenCount":10,"totalTokenCount":90}`), quota: 100, prompt: 80, output: 10},                                         // 0.625*(80+80)
	{name: "gemini thoughts", path: geminiPath, body: geminiBody(`{"promptTokenCount":80,"candidatesTokenCount":10,"thoughtsTokenCount":30,"totalTokenCount":120}`), quota: 250, prompt: 80, output: 40},       // 0.625*(80+320)
	{name: "gemini cached", path: geminiPath, body: geminiBody(`{"promptTokenCount":880,"cachedContentTokenCount":800,"candidatesTokenCount":10,"totalTokenCount":890}`), quota: 225, prompt: 880, output: 10}, // 0.625*(80 + 200 + 80)
	{name: "gemini SSE", path: geminiStream, body: geminiBody(`{"promptTokenCount":80,"candidatesTokenCount":10,"totalTokenCount":90}`), quota: 100, prompt: 80, output: 10},                                   // 0.625*(80+80)
	{name: "gemini JSON array", path: geminiArray, body: geminiBody(`{"promptTokenCount":80,"candidatesTokenCount":10,"totalTokenCount":90}`), quota: 100, prompt: 80, output: 10},                             // 0.625*(80+80)
	{name: "gemini embedContent, estimated", path: "/v1beta/models/embed-2:embedContent", body: `{"content":{"parts":[{"text":"Hello"}]}}`, quota: -1, prompt: -1, output: -1, est: true},
	{name: "gemini batchEmbedContents, estimated", path: "/v1beta/models/embed-2:batchEmbedContents", body: `{"requests":[{"model":"models/embed-2","content":{"parts":[{"text":"Hello"}]}}]}`, quota: -1, prompt: -1, output: -1, est: true},
	{name: "gemini countTokens is free", path: "/v1beta/models/gemini-x:countTokens", body: `{` + contents + `}`, quota: 0, prompt: -1, output: -1},

	// Groups.
	{name: "token of group vip", path: chatPath, group: "vip", body: chat("plain", `{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}`), quota: 125, prompt: 100, output: 50},                                          // 250*0.5
	{name: "token of group gold", path: chatPath, group: "gold", body: chat("plain", `{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}`), quota: 375, prompt: 100, output: 50},                                        // 250*1.5
	{name: "per call in group gold", path: chatPath, group: "gold", body: chat("percall", `{"prompt_tokens":9,"completion_tokens":9,"total_tokens":18}`), quota: 30000, prompt: 9, output: 9},                                        // 20000*1.5
	{name: "tool surcharge in group vip", path: claudePath, group: "vip", body: claudeBody("claude-x", `{"input_tokens":100,"output_tokens":20,"server_tool_use":{"web_search_requests":1}}`), quota: 2650, prompt: 100, output: 20}, // 150 + 5000*0.5
	{name: "user of vip uses default", path: chatPath, user: "vip", group: "default", body: chat("plain", `{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}`), quota: 200, prompt: 100, output: 50},                   // 250*0.8
	{name: "user of vip, own group", path: chatPath, user: "vip", body: chat("plain", `{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150}`), quota: 125, prompt: 100, output: 50},                                       // 250*0.5

	// Upstream does not report: counted and flagged.
	{name: "no usage, unstreamed", path: chatPath, body: `{"model":"plain",` + msgs + `,"max_tokens":100,"fake":{"no_usage":true}}`, quota: -1, prompt: -1, output: -1, est: true},
	{name: "no usage, streamed", path: chatPath, body: `{"model":"plain","stream":true,` + msgs + `,"max_tokens":100,"fake":{"no_usage":true}}`, quota: -1, prompt: -1, output: -1, est: true},
}
