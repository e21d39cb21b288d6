package web

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

func (s *Server) pricingRoutes() []route {
	return []route{
		{method: "GET", path: "/api/pricing", caller: callVisitor, handler: s.pricing},
		{method: "GET", path: "/api/ratio_config", caller: callAnyone, handler: s.ratioConfig},
	}
}

// priceView is what a model costs, as New API's model market shows it.
type priceView struct {
	ModelName            string      `json:"model_name"`
	QuotaType            int         `json:"quota_type"` // 0 by tokens, 1 per call
	ModelRatio           core.Ratio  `json:"model_ratio"`
	ModelPrice           core.Ratio  `json:"model_price"`
	OwnerBy              string      `json:"owner_by"`
	CompletionRatio      core.Ratio  `json:"completion_ratio"`
	CacheRatio           *core.Ratio `json:"cache_ratio,omitempty"`
	CreateCacheRatio     *core.Ratio `json:"create_cache_ratio,omitempty"`
	ImageRatio           *core.Ratio `json:"image_ratio,omitempty"`
	AudioRatio           *core.Ratio `json:"audio_ratio,omitempty"`
	AudioCompletionRatio *core.Ratio `json:"audio_completion_ratio,omitempty"`
	EnableGroups         []string    `json:"enable_groups"`
	EndpointTypes        []string    `json:"supported_endpoint_types"`
}

// pricingView is outside the envelope, as New API's.
type pricingView struct {
	Success           bool                      `json:"success"`
	Data              []priceView               `json:"data"`
	Vendors           []struct{}                `json:"vendors"`
	GroupRatio        map[string]core.Ratio     `json:"group_ratio"`
	UsableGroup       map[string]string         `json:"usable_group"`
	SupportedEndpoint map[string]endpointOfType `json:"supported_endpoint"`
	AutoGroups        []string                  `json:"auto_groups"`
	PricingVersion    string                    `json:"pricing_version"`
}

type endpointOfType struct {
	Path   string `json:"path"`
	Method string `json:"method"`
}

// endpointType is a route of the relay under New API's name for it.
type endpointType struct {
	name string
	op   llm.Operation
	path string
}

// endpointTypes are in the order of preference.
var endpointTypes = []endpointType{
	{"openai", llm.OpChat, "/v1/chat/completions"},
	{"openai-response", llm.OpResponses, "/v1/responses"},
	{"anthropic", llm.OpMessages, "/v1/messages"},
	{"gemini", llm.OpGenerate, "/v1beta/models/{model}:generateContent"},
	{"embeddings", llm.OpEmbeddings, "/v1/embeddings"},
	{"jina-rerank", llm.OpRerank, "/v1/rerank"},
	{"image-generation", llm.OpImageGenerations, "/v1/images/generations"},
}

// kindOfModel guesses from its name what a model is for; "" = talking.
func kindOfModel(model string) string {
	m := strings.ToLower(model)
	has := func(parts ...string) bool {
		return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(m, p) })
	}
	switch {
	case has("rerank"):
		return "jina-rerank"
	case has("embed", "bge-", "m3e"):
		return "embeddings"
	case has("dall-e", "gpt-image", "imagen", "flux", "stable-diffusion"):
		return "image-generation"
	}
	return ""
}

// endpointsOf lists the endpoint types of a model on channels of a type.
func (s *Server) endpointsOf(typ int, model string) []string {
	row, ok := s.o.Providers.Row(typ)
	if !ok {
		return nil
	}
	var out []string
	kind := kindOfModel(model)
	for _, e := range endpointTypes {
		special := e.name == "embeddings" || e.name == "jina-rerank" || e.name == "image-generation"
		if row.Supports(e.op) && (e.name == kind || kind == "" && !special) {
			out = append(out, e.name)
		}
	}
	return out
}

// offer is what the channels of a snapshot do with one model.
type offer struct {
	groups    map[string]struct{}
	endpoints []string
}

// offers collects the models of enabled channels in the groups given.
func (s *Server) offers(snap *core.Snapshot, usable map[string]string) map[string]*offer {
	out := map[string]*offer{}
	for _, id := range slices.Sorted(maps.Keys(snap.Channels)) {
		ch := snap.Channels[id]
		if !ch.Enabled() {
			continue
		}
		groups := slices.DeleteFunc(slices.Clone(ch.Groups), func(g string) bool { _, ok := usable[g]; return !ok })
		if len(groups) == 0 {
			continue
		}
		for _, m := range ch.Models {
			o := out[m]
			if o == nil {
				o = &offer{groups: map[string]struct{}{}}
				out[m] = o
			}
			for _, g := range groups {
				o.groups[g] = struct{}{}
			}
			for _, e := range s.endpointsOf(ch.Type, m) {
				if !slices.Contains(o.endpoints, e) {
					o.endpoints = append(o.endpoints, e)
				}
			}
		}
	}
	return out
}

// unpricedRatio is New API's ratio of a model without a price, where self-use
// mode allows it.
const unpricedRatio = 37*core.RatioOne + core.RatioOne/2

// pricingCache holds the replies that one snapshot gives, by the caller's group:
// guests may ask for them, and they cost a walk over all channels.
type pricingCache struct {
	mu   sync.Mutex
	snap *core.Snapshot
	body map[string][]byte
}

func (p *pricingCache) get(snap *core.Snapshot, group string, fill func() ([]byte, error)) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.snap != snap {
		p.snap, p.body = snap, map[string][]byte{}
	}
	if b := p.body[group]; b != nil {
		return b, nil
	}
	b, err := fill()
	if err == nil {
		p.body[group] = b
	}
	return b, err
}

// pricing lists the models that the caller's groups reach and that have a price.
func (s *Server) pricing(c *call) error {
	snap := s.snapshot()
	if c.user == nil && gjson.Get(snap.Options.Values["HeaderNavModules"], "pricing.requireAuth").Bool() {
		return core.Errorf(core.CodeUnauthorized, "log in to see the prices")
	}
	group := ""
	if c.user != nil {
		group = c.user.Group
	}
	body, err := s.prices.get(snap, group, func() ([]byte, error) { return json.Marshal(s.viewPricing(snap, group)) })
	if err != nil {
		return err
	}
	writeJSON(c.w, http.StatusOK, body)
	return nil
}

func (s *Server) viewPricing(snap *core.Snapshot, group string) pricingView {
	usable := snap.UsableGroups(group)
	out := pricingView{Success: true, Data: []priceView{}, Vendors: []struct{}{}, GroupRatio: map[string]core.Ratio{}, UsableGroup: usable,
		SupportedEndpoint: map[string]endpointOfType{}, AutoGroups: []string{}, PricingVersion: pricingVersion(snap)}
	for name := range usable {
		if g := snap.Groups[name]; g != nil && g.HasRatio {
			out.GroupRatio[name], _ = snap.GroupRatio(group, name)
		}
	}
	for _, name := range snap.Options.AutoGroups {
		if _, ok := usable[name]; ok {
			out.AutoGroups = append(out.AutoGroups, name)
		}
	}
	offers := s.offers(snap, usable)
	for _, model := range slices.Sorted(maps.Keys(offers)) {
		o := offers[model]
		v, ok := viewPrice(snap, model)
		if !ok {
			continue
		}
		v.EnableGroups, v.EndpointTypes = slices.Sorted(maps.Keys(o.groups)), o.endpoints
		if v.EndpointTypes == nil {
			v.EndpointTypes = []string{}
		}
		out.Data = append(out.Data, v)
		for _, e := range endpointTypes {
			if slices.Contains(o.endpoints, e.name) {
				out.SupportedEndpoint[e.name] = endpointOfType{e.path, http.MethodPost}
			}
		}
	}
	return out
}

// pricingVersion changes whenever prices may have.
func pricingVersion(snap *core.Snapshot) string {
	return fmt.Sprintf("%s-%d", snap.Epoch, snap.Revision)
}

// viewPrice shows a model's price; false where it has none and so cannot be used.
func viewPrice(snap *core.Snapshot, model string) (priceView, bool) {
	p, ok := snap.Price(model)
	v := priceView{ModelName: model, CompletionRatio: orOne(p.Completion), CacheRatio: p.Cache, CreateCacheRatio: p.CreateCache,
		ImageRatio: p.Image, AudioRatio: p.Audio, AudioCompletionRatio: p.AudioCompletion}
	switch {
	case p.PerCall != nil:
		v.QuotaType, v.ModelPrice = 1, *p.PerCall
	case p.Ratio != nil:
		v.ModelRatio = *p.Ratio
	case !ok && snap.Options.SelfUseModeEnabled:
		v.ModelRatio = unpricedRatio
	default:
		return v, false
	}
	return v, true
}

// ratioConfig hands the ratios to other instances, if the operator wants that.
func (s *Server) ratioConfig(c *call) error {
	snap := s.snapshot()
	if exposed, _ := strconv.ParseBool(snap.Options.Values["ExposeRatioEnabled"]); !exposed {
		return core.Errorf(core.CodeForbidden, "the ratios are not public; option ExposeRatioEnabled makes them so")
	}
	names := map[string]*core.Price{}
	for _, name := range s.modelNames(snap) {
		names[name], _ = snap.Price(name)
	}
	out := map[string]map[string]core.Ratio{}
	for key, option := range map[string]string{"model_ratio": "ModelRatio", "completion_ratio": "CompletionRatio", "cache_ratio": "CacheRatio",
		"create_cache_ratio": "CreateCacheRatio", "model_price": "ModelPrice"} {
		out[key] = map[string]core.Ratio{}
		for model, p := range names {
			if f := p.Field(option); *f != nil && **f != core.PriceNone {
				out[key][model] = **f
			}
		}
	}
	return c.ok(out)
}
