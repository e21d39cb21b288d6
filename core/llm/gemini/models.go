package gemini

import "github.com/sluice-gateway/sluice/core/llm"

// EncodeModels is the body of GET /v1beta/models. The list is whole.
func EncodeModels(list []llm.ModelInfo) []byte {
	b := append(make([]byte, 0, 64+96*len(list)), `{"models":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, EncodeModel(list[i])...)
	}
	return append(b, `],"nextPageToken":null}`...)
}

// EncodeModel is the body of GET /v1beta/models/{model}. The name has Google's
// prefix, which its SDKs take off or expect.
func EncodeModel(m llm.ModelInfo) []byte {
	b := llm.AppendQuoted([]byte(`{"name":`), "models/"+m.ID)
	b = append(b, `,"displayName":`...)
	b = llm.AppendQuoted(b, m.ID)
	return append(b, '}')
}
