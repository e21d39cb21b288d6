package core

import (
	"bytes"
	"encoding/json"
	"slices"
)

// PriceView is the JSON text of a price option as New API shows it: one object
// {model: number} of what is in effect, names sorted. effective is
// Snapshot.Prices. An option that is no view of prices gives "{}".
func PriceView(option string, effective map[string]*Price) string {
	return viewObject(effective, func(p *Price) any {
		f := p.Field(option)
		if f == nil || *f == nil || **f == PriceNone {
			return nil
		}
		return **f
	})
}

// ApplyPriceOption turns the whole map that a client put for a price option into
// changes of rows. builtin is the shipped list, rows are the stored ones; neither
// is changed. An entry of the map becomes the row's value; a model that the
// shipped list gives a value and the map does not gets PriceNone; a row that says
// nothing any more is deleted. Both results are sorted by model and hold only
// what differs from rows.
func ApplyPriceOption(option, value string, builtin, rows map[string]*Price) (put []*Price, del []string, err error) {
	if !slices.Contains(PriceOptions, option) {
		return nil, nil, Errorf(CodeInvalidRequest, "option %s: is no view of prices", option)
	}
	var want map[string]Ratio
	if err := parseView(option, value, &want); err != nil {
		return nil, nil, err
	}
	for _, model := range unionKeys(want, builtin, rows) {
		var next *Ratio
		if v, ok := want[model]; ok {
			next = &v
		} else if b := builtin[model]; b != nil && *b.Field(option) != nil {
			none := PriceNone
			next = &none
		}
		row := rows[model]
		p := Price{Model: model}
		if row != nil {
			p = *row
		}
		if sameRatio(*p.Field(option), next) {
			continue
		}
		*p.Field(option) = next
		if p.empty() {
			del = append(del, model) // it had a value, so there is a row
			continue
		}
		put = append(put, &p)
	}
	return put, del, nil
}

// empty reports whether a row says nothing.
func (p *Price) empty() bool {
	for _, o := range PriceOptions {
		if *p.Field(o) != nil {
			return false
		}
	}
	return p.AudioInputUSD == nil
}

func sameRatio(a, b *Ratio) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// GroupView is the JSON text of a group option as New API shows it, names sorted.
func GroupView(option string, groups map[string]*Group) string {
	return viewObject(groups, func(g *Group) any {
		switch {
		case option == "GroupRatio" && g.HasRatio:
			return g.Ratio
		case option == "UserUsableGroups" && g.Usable:
			return g.Description
		case option == "GroupGroupRatio" && len(g.Ratios) > 0:
			return g.Ratios
		}
		return nil
	})
}

// ApplyGroupOption turns the whole map that a client put for a group option into
// changes of rows, as ApplyPriceOption does for prices.
func ApplyGroupOption(option, value string, rows map[string]*Group) (put []*Group, del []string, err error) {
	var names []string
	var set func(g *Group) (changed bool)
	switch option {
	case "GroupRatio":
		var want map[string]Ratio
		if err := parseView(option, value, &want); err != nil {
			return nil, nil, err
		}
		names = unionKeys(want, rows, map[string]bool(nil))
		set = func(g *Group) bool {
			was, had := g.Ratio, g.HasRatio
			g.Ratio, g.HasRatio = want[g.Name], has(want, g.Name)
			return was != g.Ratio || had != g.HasRatio
		}
	case "UserUsableGroups":
		var want map[string]string
		if err := parseView(option, value, &want); err != nil {
			return nil, nil, err
		}
		names = unionKeys(want, rows, map[string]bool(nil))
		set = func(g *Group) bool {
			was, had := g.Description, g.Usable
			g.Description, g.Usable = want[g.Name], has(want, g.Name)
			return was != g.Description || had != g.Usable
		}
	case "GroupGroupRatio":
		var want map[string]map[string]Ratio
		if err := parseView(option, value, &want); err != nil {
			return nil, nil, err
		}
		names = unionKeys(want, rows, map[string]bool(nil))
		set = func(g *Group) bool {
			was := g.Ratios
			g.Ratios = nil
			if len(want[g.Name]) > 0 {
				g.Ratios = want[g.Name]
			}
			return !sameRatios(was, g.Ratios)
		}
	default:
		return nil, nil, Errorf(CodeInvalidRequest, "option %s: is no view of groups", option)
	}
	for _, name := range names {
		g := Group{Name: name}
		if row := rows[name]; row != nil {
			g = *row
		} else if err := CheckGroupName(name); err != nil {
			err.Param = option
			return nil, nil, err
		}
		if !set(&g) {
			continue
		}
		if !g.HasRatio && !g.Usable && len(g.Ratios) == 0 {
			if rows[name] != nil {
				del = append(del, name)
			}
			continue
		}
		put = append(put, &g)
	}
	return put, del, nil
}

// CheckGroupName reports what is wrong with the name of a new group.
func CheckGroupName(name string) *Error {
	if name == "" || len(name) > 64 || bytes.ContainsAny([]byte(name), ",\r\n\t") {
		return Errorf(CodeInvalidRequest, "group %q: a name has 1 to 64 bytes and no comma, tab or line break", name)
	}
	return nil
}

func has[V any](m map[string]V, key string) bool { _, ok := m[key]; return ok }

func sameRatios(a, b map[string]Ratio) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// parseView reads an option's value after the option's own check, and holds the
// rules for ratios that lie deeper than the check looks.
func parseView[T any](option, value string, into *T) *Error {
	if err := CheckOption(option, value); err != nil {
		return AsError(err)
	}
	if err := json.Unmarshal([]byte(value), into); err != nil {
		e := Errorf(CodeInvalidRequest, "option %s: %s", option, err)
		e.Param = option
		return e
	}
	nested, _ := any(*into).(map[string]map[string]Ratio)
	for name, m := range nested {
		for k, v := range m {
			if v < 0 {
				e := Errorf(CodeInvalidRequest, "option %s: %q, %q: must not be negative", option, name, k)
				e.Param = option
				return e
			}
		}
	}
	return nil
}

func unionKeys[A, B, C any](a map[string]A, b map[string]B, c map[string]C) []string {
	seen := make(map[string]struct{}, len(a)+len(b)+len(c))
	for k := range a {
		seen[k] = struct{}{}
	}
	for k := range b {
		seen[k] = struct{}{}
	}
	for k := range c {
		seen[k] = struct{}{}
	}
	out := make([]string, 0, len(seen))
	for k := range seen {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// viewObject writes {name: value} with sorted names and without HTML escapes;
// entries whose value is nil are left out.
func viewObject[V any](m map[string]V, value func(V) any) string {
	out := make(map[string]any, len(m))
	for name, v := range m {
		if x := value(v); x != nil {
			out[name] = x
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	// Texts, Ratios and maps of them always encode.
	if err := enc.Encode(out); err != nil {
		return "{}"
	}
	return string(bytes.TrimSpace(b.Bytes()))
}
