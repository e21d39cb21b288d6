package web

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (s *Server) optionRoutes() []route {
	return []route{
		{method: "GET", path: "/api/option/", caller: callRoot, handler: s.listOptions},
		{method: "PUT", path: "/api/option/", caller: callRoot, handler: s.putOption},
		{method: "POST", path: "/api/option/rest_model_ratio", caller: callRoot, handler: s.resetModelRatio},
		{method: "GET", path: "/api/notice", caller: callAnyone, handler: s.optionText("Notice")},
		{method: "GET", path: "/api/about", caller: callAnyone, handler: s.optionText("About")},
		{method: "GET", path: "/api/home_page_content", caller: callAnyone, handler: s.optionText("HomePageContent")},
		{method: "GET", path: "/api/user-agreement", caller: callAnyone, handler: s.optionText("legal.user_agreement")},
		{method: "GET", path: "/api/privacy-policy", caller: callAnyone, handler: s.optionText("legal.privacy_policy")},
	}
}

// optionText answers one option that everybody may read.
func (s *Server) optionText(key string) func(c *call) error {
	return func(c *call) error { return c.ok(s.options().Values[key]) }
}

type optionView struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// optionCompletionMeta tells which completion ratios an option cannot change.
const optionCompletionMeta = "CompletionRatioMeta"

// listOptions answers every option in effect: stored values, defaults, and the
// views of prices and groups. Secrets are withheld.
func (s *Server) listOptions(c *call) error {
	snap := s.snapshot()
	values := maps.Clone(snap.Options.Values)
	for _, name := range core.PriceOptions {
		values[name] = core.PriceView(name, snap.Prices)
	}
	for _, name := range core.GroupOptions {
		values[name] = core.GroupView(name, snap.Groups)
	}
	meta, err := json.Marshal(completionMeta(snap))
	if err != nil {
		return err
	}
	values[optionCompletionMeta] = string(meta)
	out := make([]optionView, 0, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !core.OptionSecret(key) {
			out = append(out, optionView{key, values[key]})
		}
	}
	return c.ok(out)
}

type completionInfo struct {
	Ratio  core.Ratio `json:"ratio"`
	Locked bool       `json:"locked"`
}

func completionMeta(snap *core.Snapshot) map[string]completionInfo {
	out := map[string]completionInfo{}
	for name := range snap.Prices {
		p, ok := snap.Price(name)
		if !ok || strings.HasSuffix(name, "*") {
			continue
		}
		out[name] = completionInfo{orOne(p.Completion), p.Locked}
	}
	return out
}

func orOne(r *core.Ratio) core.Ratio {
	if r == nil || *r == core.PriceNone {
		return core.RatioOne
	}
	return *r
}

func (s *Server) putOption(c *call) error {
	var body struct {
		Key   string          `json:"key" validate:"required"`
		Value json.RawMessage `json:"value"`
	}
	if err := c.bind(&body); err != nil {
		return err
	}
	value, err := optionValue(body.Value)
	if err != nil {
		return err
	}
	if err := core.CheckOption(body.Key, value); err != nil {
		return err
	}
	switch {
	case body.Key == optionCompletionMeta:
		return invalidField("key", optionCompletionMeta+" is computed and cannot be set")
	case slices.Contains(core.PriceOptions, body.Key):
		err = s.putPrices(c, body.Key, value, s.o.Prices)
	case slices.Contains(core.GroupOptions, body.Key):
		err = s.putGroups(c, body.Key, value)
	default:
		err = c.update(func(ctx context.Context, tx *store.Tx) error { return tx.PutOption(ctx, body.Key, value) })
	}
	if err != nil {
		return err
	}
	return c.done()
}

// optionValue is the text of a value that may be a text, a number or a bool.
func optionValue(raw json.RawMessage) (string, error) {
	var v any
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &v); err != nil {
			return "", invalidField("value", "is not JSON")
		}
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case float64:
		return string(raw), nil // as it was typed
	}
	return "", invalidField("value", "must be a text, a number, true or false")
}

// resetModelRatio forgets what was set over the built-in model ratios.
func (s *Server) resetModelRatio(c *call) error {
	if err := s.putPrices(c, "ModelRatio", "{}", nil); err != nil {
		return err
	}
	return c.done()
}

// putPrices turns a whole price option into changes of price rows. The lock
// keeps two changes on this node from working on the same rows; the rows are
// read past the snapshot, which may be a look old.
func (s *Server) putPrices(c *call, option, value string, builtin map[string]*core.Price) error {
	s.views.Lock()
	defer s.views.Unlock()
	all, err := s.o.Store.FetchAll(c.ctx())
	if err != nil {
		return err
	}
	put, del, err := core.ApplyPriceOption(option, value, builtin, all.Rows.Prices)
	if err != nil {
		return err
	}
	return c.update(func(ctx context.Context, tx *store.Tx) error {
		for _, p := range put {
			if err := tx.PutPrice(ctx, p); err != nil {
				return err
			}
		}
		for _, model := range del {
			if err := tx.DeletePrice(ctx, model); err != nil {
				return err
			}
		}
		return nil
	})
}

// putGroups does for groups what putPrices does for prices.
func (s *Server) putGroups(c *call, option, value string) error {
	s.views.Lock()
	defer s.views.Unlock()
	all, err := s.o.Store.FetchAll(c.ctx())
	if err != nil {
		return err
	}
	put, del, err := core.ApplyGroupOption(option, value, all.Rows.Groups)
	if err != nil {
		return err
	}
	return c.update(func(ctx context.Context, tx *store.Tx) error {
		for _, g := range put {
			if err := tx.PutGroup(ctx, g); err != nil {
				return err
			}
		}
		for _, name := range del {
			if err := tx.DeleteGroup(ctx, name); err != nil {
				return err
			}
		}
		return nil
	})
}
