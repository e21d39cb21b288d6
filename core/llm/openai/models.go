package openai

import (
	"strconv"

	"github.com/sluice-gateway/sluice/core/llm"
)

// EncodeModels is the body of GET /v1/models as New API writes it.
func EncodeModels(list []llm.ModelInfo) []byte {
	b := append(make([]byte, 0, 64+160*len(list)), `{"success":true,"object":"list","data":[`...)
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendModel(b, &list[i])
	}
	return append(b, "]}"...)
}

// EncodeModel is the body of GET /v1/models/{model}.
func EncodeModel(m llm.ModelInfo) []byte { return appendModel(nil, &m) }

func appendModel(b []byte, m *llm.ModelInfo) []byte {
	b = append(b, `{"id":`...)
	b = llm.AppendQuoted(b, m.ID)
	b = append(b, `,"object":"model","created":`...)
	b = strconv.AppendInt(b, m.CreatedAt(), 10)
	b = append(b, `,"owned_by":`...)
	b = llm.AppendQuoted(b, m.OwnedBy)
	b = append(b, `,"supported_endpoint_types":[`...)
	for i, e := range m.Endpoints {
		if i > 0 {
			b = append(b, ',')
		}
		b = llm.AppendQuoted(b, e)
	}
	return append(b, "]}"...)
}
