package core

// Price is what a model costs. A nil field says nothing: the built-in price
// list (configs/prices.yaml) or the formula's default counts. The options
// ModelRatio, CompletionRatio, ModelPrice, CacheRatio, CreateCacheRatio,
// ImageRatio, AudioRatio and AudioCompletionRatio are views of these rows.
//
// One ratio point is 2 USD per million tokens; 500,000 quota units are 1 USD.
type Price struct {
	Model           string
	Ratio           *Ratio // USD per 1M input tokens, divided by 2
	Completion      *Ratio // output : input
	Cache           *Ratio // cache read : input
	CreateCache     *Ratio // cache write (5 minutes) : input; one hour costs 1.6 times that
	Image           *Ratio // image input : text input
	Audio           *Ratio // audio input : text input
	AudioCompletion *Ratio // audio output : audio input
	PerCall         *Ratio // USD per call; wins over Ratio
	AudioInputUSD   *Ratio // USD per 1M audio input tokens, absolute (Gemini)
	Locked          bool   // built-in only: the Completion given here wins over a row's

	// Built-in only: factors of PerCall by image size ("1024x1792") and by
	// quality ("hd", or "hd 1024x1792" for one size). What is not named is 1.
	Sizes, Qualities map[string]Ratio

	Rev Revision
}

// Field selects one nullable field by the name of its option, for the views.
func (p *Price) Field(option string) **Ratio {
	switch option {
	case "ModelRatio":
		return &p.Ratio
	case "CompletionRatio":
		return &p.Completion
	case "ModelPrice":
		return &p.PerCall
	case "CacheRatio":
		return &p.Cache
	case "CreateCacheRatio":
		return &p.CreateCache
	case "ImageRatio":
		return &p.Image
	case "AudioRatio":
		return &p.Audio
	case "AudioCompletionRatio":
		return &p.AudioCompletion
	}
	return nil
}

// PriceOptions are the options that are views of prices, in the order of
// Price's fields.
var PriceOptions = []string{"ModelRatio", "CompletionRatio", "ModelPrice", "CacheRatio", "CreateCacheRatio", "ImageRatio", "AudioRatio", "AudioCompletionRatio"}

// GroupOptions are the options that are views of groups.
var GroupOptions = []string{"GroupRatio", "UserUsableGroups", "GroupGroupRatio"}

// PriceNone in a row means: this model has no such value, although the built-in
// list has one. It is how an option that was replaced as a whole forgets an entry.
const PriceNone Ratio = -1

// Overlay returns base with p's fields put over it. PriceNone removes.
func (p Price) Overlay(base Price) Price {
	out := base
	out.Model, out.Rev = p.Model, p.Rev
	for _, name := range PriceOptions {
		v := *p.Field(name)
		switch {
		case v == nil || (name == "CompletionRatio" && base.Locked):
		case *v == PriceNone:
			*out.Field(name) = nil
		default:
			*out.Field(name) = v
		}
	}
	return out
}
