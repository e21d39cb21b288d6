package core

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

func checkJSONObject(text string) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	return nil
}

func parseStringMap(text string) (map[string]string, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var m map[string]string
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("not a JSON object of texts: %w", err)
	}
	return m, nil
}

// parseMapping follows chains to their end, so that the hot path looks up once.
func parseMapping(text string) (map[string]string, error) {
	m, err := parseStringMap(text)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(m))
	for from := range m {
		to, seen := from, map[string]bool{}
		for {
			next, ok := m[to]
			if !ok || next == to {
				break
			}
			if seen[to] {
				return nil, fmt.Errorf("%q leads in a circle", from)
			}
			seen[to] = true
			to = next
		}
		if to == "" {
			return nil, fmt.Errorf("%q leads to an empty name", from)
		}
		out[from] = to
	}
	return out, nil
}

func parseStatusCodes(text string) (map[int]int, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		return nil, fmt.Errorf("not a JSON object: %w", err)
	}
	out := make(map[int]int, len(m))
	for k, raw := range m {
		from, err1 := strconv.Atoi(k)
		to, err2 := strconv.Atoi(strings.Trim(string(raw), `"`))
		if err1 != nil || err2 != nil || from < 100 || from > 599 || to < 400 || to > 599 {
			return nil, fmt.Errorf("%q: %s is no mapping of one status to an error status", k, raw)
		}
		if from != 200 {
			out[from] = to
		}
	}
	return out, nil
}

func (r *ChannelRules) parseSetting(text string) error {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var s struct {
		Proxy        string `json:"proxy"`
		SystemPrompt string `json:"system_prompt"`
		SystemFirst  bool   `json:"system_prompt_override"`
		PassThrough  bool   `json:"pass_through_body_enabled"`
	}
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return fmt.Errorf("not a JSON object: %w", err)
	}
	if s.Proxy != "" {
		u, err := url.Parse(s.Proxy)
		if err != nil || u.Host == "" {
			return fmt.Errorf("proxy is not a URL")
		}
		switch u.Scheme {
		case "http", "https", "socks5", "socks5h":
		default:
			return fmt.Errorf("proxy: scheme %q is not http, https, socks5 or socks5h", u.Scheme)
		}
	}
	r.Proxy, r.SystemPrompt, r.SystemFirst, r.PassThrough = Secret(s.Proxy), s.SystemPrompt, s.SystemFirst, s.PassThrough
	return nil
}
