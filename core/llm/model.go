package llm

// ModelInfo is one entry of a list of models, in any format.
type ModelInfo struct {
	ID        string
	OwnedBy   string
	Created   int64    // unix seconds; 0 = ModelsCreated
	Endpoints []string // supported_endpoint_types, as New API names them: openai, anthropic, gemini …
}

// ModelsCreated is the date that New API gives every model.
const ModelsCreated = 1626777600

// CreatedAt is Created or its stand-in.
func (m *ModelInfo) CreatedAt() int64 {
	if m.Created != 0 {
		return m.Created
	}
	return ModelsCreated
}
