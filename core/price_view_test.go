package core

import (
	"slices"
	"strings"
	"testing"
)

func ratioPtr(text string) *Ratio { r := MustRatio(text); return &r }

func TestPriceViewAndApply(t *testing.T) {
	builtin := map[string]*Price{
		"a": {Model: "a", Ratio: ratioPtr("1"), Completion: ratioPtr("4"), Locked: true},
		"b": {Model: "b", Ratio: ratioPtr("2.5")},
		"c": {Model: "c", PerCall: ratioPtr("0.04")},
	}
	rows := map[string]*Price{
		"b": {Model: "b", Ratio: ratioPtr("3")},
		"x": {Model: "x", Ratio: ratioPtr("7"), Cache: ratioPtr("0.5")},
		"y": {Model: "y", Ratio: ratioPtr("9")},
	}
	effective := func() map[string]*Price { return overlayPrices(rows, builtin) }
	if got, want := PriceView("ModelRatio", effective()), `{"a":1,"b":3,"x":7,"y":9}`; got != want {
		t.Fatalf("view: got %s want %s", got, want)
	}
	if got, want := PriceView("ModelPrice", effective()), `{"c":0.04}`; got != want {
		t.Fatalf("view: got %s want %s", got, want)
	}
	if got := PriceView("NoSuch", effective()); got != "{}" {
		t.Fatalf("view of another option: %s", got)
	}

	put, del, err := ApplyPriceOption("ModelRatio", `{"b":3,"x":8,"n":0}`, builtin, rows)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range put {
		names = append(names, p.Model)
		rows[p.Model] = p
	}
	for _, d := range del {
		delete(rows, d)
	}
	// b is unchanged; a is built in and forgotten; y said nothing else.
	if !slices.Equal(names, []string{"a", "n", "x"}) || !slices.Equal(del, []string{"y"}) {
		t.Fatalf("put %v del %v", names, del)
	}
	if got, want := PriceView("ModelRatio", effective()), `{"b":3,"n":0,"x":8}`; got != want {
		t.Fatalf("after: got %s want %s", got, want)
	}
	if got, want := PriceView("CacheRatio", effective()), `{"x":0.5}`; got != want {
		t.Fatalf("other option: got %s want %s", got, want)
	}
	// A locked completion stays what it is, whatever is put.
	put, _, err = ApplyPriceOption("CompletionRatio", `{"a":9}`, builtin, rows)
	if err != nil || len(put) != 1 {
		t.Fatal(err, put)
	}
	rows["a"] = put[0]
	if got, want := PriceView("CompletionRatio", effective()), `{"a":4}`; got != want {
		t.Fatalf("locked: got %s want %s", got, want)
	}
	// Putting the view back and back again changes nothing.
	again := PriceView("ModelRatio", effective())
	for range 2 {
		put, del, err = ApplyPriceOption("ModelRatio", again, builtin, rows)
		if err != nil || len(put)+len(del) != 0 {
			t.Fatalf("not idempotent: %v %v %v", put, del, err)
		}
	}
}

func TestApplyPriceOptionRefuses(t *testing.T) {
	for name, value := range map[string]string{
		"negative": `{"a":-1}`, "no object": `[1]`, "text": `{"a":"x"}`, "empty name": `{"":1}`, "too fine": `{"a":0.0000000001}`, "cut": `{"a":1`,
	} {
		if _, _, err := ApplyPriceOption("ModelRatio", value, nil, nil); !IsCode(err, CodeInvalidRequest) || !strings.Contains(err.Error(), "ModelRatio") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := ApplyPriceOption("GroupRatio", `{}`, nil, nil); err == nil {
		t.Error("a foreign option was taken")
	}
}

func TestGroupViews(t *testing.T) {
	rows := map[string]*Group{}
	apply := func(option, value string) (n int) {
		t.Helper()
		put, del, err := ApplyGroupOption(option, value, rows)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range put {
			rows[g.Name] = g
		}
		for _, d := range del {
			delete(rows, d)
		}
		return len(put) + len(del)
	}
	expect := func(option, want string) {
		t.Helper()
		if got := GroupView(option, rows); got != want {
			t.Fatalf("%s: got %s want %s", option, got, want)
		}
	}
	apply("GroupRatio", `{"vip":0.5,"default":1,"free":0}`)
	expect("GroupRatio", `{"default":1,"free":0,"vip":0.5}`)
	apply("UserUsableGroups", `{"default":"<all> & any","trial":""}`)
	expect("UserUsableGroups", `{"default":"<all> & any","trial":""}`)
	apply("GroupGroupRatio", `{"vip":{"default":0.8,"a":2},"gone":{}}`)
	expect("GroupGroupRatio", `{"vip":{"a":2,"default":0.8}}`)
	if _, ok := rows["gone"]; ok {
		t.Fatal("a group that carries nothing was kept")
	}
	if n := apply("GroupRatio", GroupView("GroupRatio", rows)); n != 0 {
		t.Fatalf("not idempotent: %d changes", n)
	}
	apply("GroupRatio", `{"default":1}`)
	expect("GroupRatio", `{"default":1}`)
	expect("GroupGroupRatio", `{"vip":{"a":2,"default":0.8}}`)
	if _, ok := rows["free"]; ok {
		t.Fatal("free carries nothing and was kept")
	}
	apply("GroupGroupRatio", `{}`)
	apply("UserUsableGroups", `{}`)
	apply("GroupRatio", `{}`)
	if len(rows) != 0 {
		t.Fatalf("left: %v", rows)
	}
	for option, value := range map[string]string{
		"GroupRatio": `{"a":-1}`, "GroupGroupRatio": `{"a":{"b":-1}}`, "UserUsableGroups": `{"a,b":"x"}`, "ModelRatio": `{}`,
	} {
		if _, _, err := ApplyGroupOption(option, value, nil); !IsCode(err, CodeInvalidRequest) {
			t.Errorf("%s %s: %v", option, value, err)
		}
	}
}
