package llm

import (
	"encoding/json"
	"fmt"
	"time"
)

// Params is a channel's param_override, parsed and checked once. It is immutable
// and safe for concurrent use.
type Params struct{ raw map[string]json.RawMessage }

// ParamError is the answer that a param_override's return_error demands.
type ParamError struct {
	Status     int
	Type       string
	Code       string
	Message    string
	SkipRetry  bool // do not try another channel
	RetryAfter time.Duration
}

// Error implements error.
func (e *ParamError) Error() string { return "param_override: " + e.Message }

// ParseParams reads a param_override object.
func ParseParams(text []byte) (*Params, error) {
	p := &Params{}
	if err := json.Unmarshal(text, &p.raw); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	return p, nil
}

// ParamContext is what conditions can see beside the body.
type ParamContext struct{ OriginalModel, UpstreamModel string }

// Apply makes the changes.
func (p *Params) Apply(body []byte, c ParamContext) ([]byte, error) { return body, nil }
