package llm

// Usage is what a request consumed, in disjoint fields: no token is counted in
// two of them. Each codec maps its vendor's overlapping numbers to these.
type Usage struct {
	Input        int64 // text input, neither read from nor written to a cache
	CacheRead    int64 // input read from a cache
	CacheWrite   int64 // input written to a cache for 5 minutes, or where the vendor does not say for how long
	CacheWrite1h int64 // input written to a cache for one hour
	ImageInput   int64 // image input
	AudioInput   int64 // audio input
	Output       int64 // text output, reasoning and image output included
	AudioOutput  int64 // audio output
	Reasoning    int64 // part of Output, told apart for the log only

	// Tools are calls that vendors bill apart (web_search, file_search …).
	Tools []ToolCalls

	// ClaudeStyle: the vendor's own prompt count leaves cached and written
	// tokens out. It changes what the log shows, never what is billed.
	ClaudeStyle bool
}

// ToolCalls counts the calls of one billed tool.
type ToolCalls struct {
	Name  string
	Calls int64
}

// Prompt is the prompt's token count as the vendor counts it.
func (u *Usage) Prompt() int64 {
	if u.ClaudeStyle {
		return u.Input + u.ImageInput + u.AudioInput
	}
	return u.Input + u.CacheRead + u.CacheWrite + u.CacheWrite1h + u.ImageInput + u.AudioInput
}

// Completion is the output's token count.
func (u *Usage) Completion() int64 { return u.Output + u.AudioOutput }

// Total is every token.
func (u *Usage) Total() int64 {
	return u.Input + u.CacheRead + u.CacheWrite + u.CacheWrite1h + u.ImageInput + u.AudioInput + u.Completion()
}
