package core

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core/llm"
)

// ChannelStatus is New API's number.
type ChannelStatus int

// The states of a channel.
const (
	ChannelEnabled      ChannelStatus = 1
	ChannelDisabled     ChannelStatus = 2 // by hand
	ChannelAutoDisabled ChannelStatus = 3 // by evidence
)

// Channel is an upstream account. The JSON texts are kept as given and were
// parsed once by Prepare; parsed forms are what the relay uses.
type Channel struct {
	ID                int64
	Type              int // New API's channel type; a row of the provider catalogue
	Key               Secret
	Name              string
	Status            ChannelStatus
	Weight            int64
	Priority          int64
	BaseURL           string // "" = the provider's own
	Organization      string // OpenAI-Organization
	TestModel         string
	Other             string // API version for Azure and Gemini
	Models            []string
	Groups            []string
	ModelMapping      string // JSON object {"asked":"sent"}
	StatusCodeMapping string // JSON object {"429":"500"}
	ParamOverride     string // JSON object, see core/llm
	HeaderOverride    string // JSON object {"Name":"value"}
	Setting           string // JSON object: proxy, system_prompt, system_prompt_override, pass_through_body_enabled …
	Settings          string // JSON object: vendor switches
	Tag               string
	Remark            string
	AutoBan           bool
	Balance           Ratio // USD, as the vendor told
	BalanceAt         time.Time
	UsedQuota         int64 // the ledger's
	ResponseTime      time.Duration
	TestedAt          time.Time
	CreatedAt         time.Time
	OtherInfo         string // JSON object {"status_reason","status_time"}
	Rev               Revision

	Parsed ChannelRules // filled by Prepare
}

// ChannelRules is what Prepare read from a channel's JSON texts.
type ChannelRules struct {
	Mapping      map[string]string // asked model -> sent model, chains followed
	StatusCodes  map[int]int       // upstream status -> status shown and judged
	Params       *llm.Params       // ParamOverride, nil when empty
	Headers      map[string]string // HeaderOverride
	Proxy        Secret            // http, https, socks5 URL; may hold a password
	SystemPrompt string
	SystemFirst  bool // put SystemPrompt before an existing one
	PassThrough  bool // send the client's body untouched
}

// Enabled reports whether the channel takes traffic.
func (c *Channel) Enabled() bool { return c.Status == ChannelEnabled }

// UpstreamModel is the name under which upstream knows model.
func (c *Channel) UpstreamModel(model string) string {
	if to, ok := c.Parsed.Mapping[model]; ok {
		return to
	}
	return model
}

// Serves reports whether the channel lists model for group.
func (c *Channel) Serves(group, model string) bool {
	return slices.Contains(c.Groups, group) && slices.Contains(c.Models, model)
}

// Prepare parses and checks the JSON texts. The error names field and rule.
// Call it before the value is shared; a store refuses what does not prepare.
func (c *Channel) Prepare() error {
	var r ChannelRules
	var err error
	if r.Mapping, err = parseMapping(c.ModelMapping); err != nil {
		return fmt.Errorf("model_mapping: %w", err)
	}
	if r.StatusCodes, err = parseStatusCodes(c.StatusCodeMapping); err != nil {
		return fmt.Errorf("status_code_mapping: %w", err)
	}
	if p := strings.TrimSpace(c.ParamOverride); p != "" {
		if r.Params, err = llm.ParseParams([]byte(p)); err != nil {
			return fmt.Errorf("param_override: %w", err)
		}
	}
	if r.Headers, err = parseStringMap(c.HeaderOverride); err != nil {
		return fmt.Errorf("header_override: %w", err)
	}
	if err := r.parseSetting(c.Setting); err != nil {
		return fmt.Errorf("setting: %w", err)
	}
	if c.Settings != "" {
		if err := checkJSONObject(c.Settings); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	}
	if c.Weight < 0 || c.Weight > 1_000_000 {
		return fmt.Errorf("weight: %d is not in 0..1000000", c.Weight)
	}
	c.Parsed = r
	return nil
}
