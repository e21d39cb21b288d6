package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-gateway/sluice/core"
)

type priceFile struct {
	Families map[string]priceEntry `yaml:"families"`
	Models   map[string]priceEntry `yaml:"models"`
}

type priceEntry struct {
	Ratio           *core.Ratio           `yaml:"ratio"`
	Completion      *core.Ratio           `yaml:"completion"`
	Cache           *core.Ratio           `yaml:"cache"`
	CreateCache     *core.Ratio           `yaml:"create_cache"`
	Image           *core.Ratio           `yaml:"image"`
	Audio           *core.Ratio           `yaml:"audio"`
	AudioCompletion *core.Ratio           `yaml:"audio_completion"`
	AudioInputUSD   *core.Ratio           `yaml:"audio_input_usd"`
	PerCall         *core.Ratio           `yaml:"per_call"`
	Sizes           map[string]core.Ratio `yaml:"sizes"`
	Qualities       map[string]core.Ratio `yaml:"qualities"`
	Locked          bool                  `yaml:"locked"`
}

// LoadPrices reads the built-in price list (configs/prices.yaml). Unknown keys,
// names that occur twice and negative numbers are errors that name the entry.
func LoadPrices(text []byte) (map[string]*core.Price, error) {
	var f priceFile
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("price list: %w", err)
	}
	if err := dec.Decode(new(priceFile)); !errors.Is(err, io.EOF) {
		return nil, errors.New("price list: more than one document")
	}
	out := make(map[string]*core.Price, len(f.Families)+len(f.Models))
	for name, e := range f.Families {
		if !strings.HasSuffix(name, "*") || len(name) < 2 {
			return nil, fmt.Errorf("price list: family %q: a name ends in * and has something before it", name)
		}
		p, err := e.price(name)
		if err != nil {
			return nil, err
		}
		out[name] = p
	}
	for name, e := range f.Models {
		if strings.HasSuffix(name, "*") || name == "" {
			return nil, fmt.Errorf("price list: model %q: names that end in * stand under families", name)
		}
		p, err := e.price(name)
		if err != nil {
			return nil, err
		}
		if p.Ratio == nil && p.PerCall == nil {
			return nil, fmt.Errorf("price list: model %q: neither ratio nor per_call", name)
		}
		out[name] = p
	}
	lockFamilies(f.Families, f.Models, out)
	return out, nil
}

// lockFamilies writes a family's locked completion into its listed models, so
// that the view of CompletionRatio shows what is billed.
func lockFamilies(families, models map[string]priceEntry, out map[string]*core.Price) {
	for name := range models {
		if out[name].Locked {
			continue
		}
		best := ""
		for fam, e := range families {
			if e.Completion != nil && len(fam) > len(best) && strings.HasPrefix(name, fam[:len(fam)-1]) {
				best = fam
			}
		}
		if best != "" && families[best].Locked {
			out[name].Completion, out[name].Locked = families[best].Completion, true
		}
	}
}

func (e priceEntry) price(name string) (*core.Price, error) {
	p := &core.Price{Model: name, Ratio: e.Ratio, Completion: e.Completion, Cache: e.Cache, CreateCache: e.CreateCache, Image: e.Image,
		Audio: e.Audio, AudioCompletion: e.AudioCompletion, AudioInputUSD: e.AudioInputUSD, PerCall: e.PerCall,
		Sizes: e.Sizes, Qualities: e.Qualities, Locked: e.Locked}
	all := []*core.Ratio{e.Ratio, e.Completion, e.Cache, e.CreateCache, e.Image, e.Audio, e.AudioCompletion, e.AudioInputUSD, e.PerCall}
	for _, m := range []map[string]core.Ratio{e.Sizes, e.Qualities} {
		for _, v := range m {
			all = append(all, &v)
		}
	}
	for _, v := range all {
		if v != nil && *v < 0 {
			return nil, fmt.Errorf("price list: %q: %s is negative", name, *v)
		}
	}
	if e.Ratio != nil && e.PerCall != nil {
		return nil, fmt.Errorf("price list: %q: ratio and per_call exclude each other", name)
	}
	if e.Locked && e.Completion == nil {
		return nil, fmt.Errorf("price list: %q: locked without completion", name)
	}
	if len(name) > 255 {
		return nil, fmt.Errorf("price list: %q: the name is longer than 255 bytes", name)
	}
	return p, nil
}
