package config

import (
	"maps"
	"reflect"
	"sync/atomic"
)

// Changes is what a reload did.
type Changes struct {
	Applied     []string // keys that have their new value
	NeedRestart []string // keys whose new value waits for a restart
}

// Merge returns old with the reloadable keys of next. It fails when the mixture
// breaks a rule that next alone keeps; old then stays in force.
func Merge(old, next *Config) (*Config, Changes, error) {
	out := *old
	out.origins = maps.Clone(old.origins)
	out.notices = nil
	if out.origins == nil {
		out.origins = map[string]Origin{}
	}
	var changes Changes
	for _, k := range Keys() {
		if reflect.DeepEqual(k.field(old).Interface(), k.field(next).Interface()) {
			continue
		}
		if !k.Reload {
			changes.NeedRestart = append(changes.NeedRestart, k.Name)
			continue
		}
		k.field(&out).Set(k.field(next))
		out.origins[k.Name] = next.Origin(k.Name)
		changes.Applied = append(changes.Applied, k.Name)
	}
	if problems := out.validate(); len(problems) > 0 {
		return nil, Changes{}, problems
	}
	out.notices = next.notices
	return &out, changes, nil
}

// Holder keeps the configuration in force. Its Get is the func() *Config that
// rooms are given; they call it anew for each use.
type Holder struct {
	current atomic.Pointer[Config]
}

// NewHolder starts with c.
func NewHolder(c *Config) *Holder {
	h := &Holder{}
	h.current.Store(c)
	return h
}

// Get returns the configuration in force. Safe for concurrent use.
func (h *Holder) Get() *Config { return h.current.Load() }

// Reload swaps in the reloadable keys of next. Call it from one goroutine.
func (h *Holder) Reload(next *Config) (Changes, error) {
	merged, changes, err := Merge(h.Get(), next)
	if err != nil {
		return Changes{}, err
	}
	h.current.Store(merged)
	return changes, nil
}
