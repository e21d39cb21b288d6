package claude

import (
	"time"

	"github.com/sluice-gateway/sluice/core/llm"
)

// EncodeModels is the body of GET /v1/models for a Claude client. The list is whole.
func EncodeModels(list []llm.ModelInfo) []byte {
	b := append(make([]byte, 0, 96+128*len(list)), `{"data":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, EncodeModel(list[i])...)
	}
	b = append(b, `],"first_id":`...)
	if len(list) == 0 {
		return append(b, `null,"has_more":false,"last_id":null}`...)
	}
	b = llm.AppendQuoted(b, list[0].ID)
	b = append(b, `,"has_more":false,"last_id":`...)
	b = llm.AppendQuoted(b, list[len(list)-1].ID)
	return append(b, '}')
}

// EncodeModel is the body of GET /v1/models/{model} for a Claude client.
func EncodeModel(m llm.ModelInfo) []byte {
	b := llm.AppendQuoted([]byte(`{"id":`), m.ID)
	b = append(b, `,"created_at":`...)
	b = llm.AppendQuoted(b, time.Unix(m.CreatedAt(), 0).UTC().Format(time.RFC3339))
	b = append(b, `,"display_name":`...)
	b = llm.AppendQuoted(b, m.ID)
	return append(b, `,"type":"model"}`...)
}
