package llm

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestParams(t *testing.T) {
	ops := func(list string) string { return `{"operations":[` + list + `]}` }
	cases := map[string]struct{ params, body, want string }{
		"flat": {`{"temperature":0.1,"big":12345678901234567890,"nested":{"a": [1]}}`,
			`{ "temperature" : 1 , "keep":0 }`, `{ "temperature" : 0.1 , "keep":0,"big":12345678901234567890,"nested":{"a":[1]} }`},
		"flat into nothing":   {`{"a":1,"b":"x"}`, `{}`, `{"a":1,"b":"x"}`},
		"flat with dots":      {`{"a.b":1}`, `{"a":{"b":0}}`, `{"a":{"b":0},"a.b":1}`},
		"flat, escaped key":   {`{"temperature":0}`, `{"temper\u0061ture":1}`, `{"temper\u0061ture":0}`},
		"flat and operations": {`{"a":1,"operations":[{"mode":"set","path":"b","value":2}]}`, `{}`, `{"a":1,"b":2}`},
		"set":                 {ops(`{"path":"a.b","mode":"set","value":1.50}`), `{"x":0}`, `{"x":0,"a":{"b":1.50}}`},
		"set last":            {ops(`{"path":"m.-1.c","mode":"set","value":"z"}`), `{"m":[{"c":"a"},{"c":"b"}]}`, `{"m":[{"c":"a"},{"c":"z"}]}`},
		"set keeps":           {ops(`{"path":"a","mode":"set","value":1,"keep_origin":true},{"path":"b","mode":"set","value":2,"keep_origin":true}`), `{"a":0}`, `{"a":0,"b":2}`},
		"set escaped":         {ops(`{"path":"a\\.b","mode":"set","value":1}`), `{"a.b":0}`, `{"a.b":1}`},
		"delete":              {ops(`{"path":"a","mode":"delete"},{"path":"nothing","mode":"delete"}`), `{"a":1, "b" : 2}`, `{ "b" : 2}`},
		"move":                {ops(`{"from":"a","to":"b.c","mode":"move"}`), `{"a":{"x":[1,2]},"z":0}`, `{"z":0,"b":{"c":{"x":[1,2]}}}`},
		"copy":                {ops(`{"from":"m.-1","to":"last","mode":"copy"}`), `{"m":[1,2.0]}`, `{"m":[1,2.0],"last":2.0}`},
		"append text":         {ops(`{"path":"a","mode":"append","value":"\n!"}`), `{"a":"x"}`, `{"a":"x\n!"}`},
		"prepend text":        {ops(`{"path":"a","mode":"prepend","value":"<b>"}`), `{"a":"x"}`, `{"a":"<b>x"}`},
		"append list":         {ops(`{"path":"a","mode":"append","value":[2,3]}`), `{"a":[ 1 ]}`, `{"a":[1,2,3]}`},
		"prepend one":         {ops(`{"path":"a","mode":"prepend","value":{"t":1}}`), `{"a":[1]}`, `{"a":[{"t":1},1]}`},
		"append to empty":     {ops(`{"path":"a","mode":"append","value":"s"}`), `{"a":[]}`, `{"a":["s"]}`},
		"merge":               {ops(`{"path":"a","mode":"append","value":{"x":1,"y":2}}`), `{"a":{"x":0}}`, `{"a":{"x":1,"y":2}}`},
		"merge keeps":         {ops(`{"path":"a","mode":"append","value":{"x":1,"y":2},"keep_origin":true}`), `{"a":{"x":0}}`, `{"a":{"x":0,"y":2}}`},
		"trims": {ops(`{"path":"a","mode":"trim_prefix","value":"pre-"},{"path":"a","mode":"trim_suffix","value":"-post"},{"path":"b","mode":"trim_space"}`),
			`{"a":"pre-x-post","b":" y "}`, `{"a":"x","b":"y"}`},
		"ensures": {ops(`{"path":"a","mode":"ensure_prefix","value":"p/"},{"path":"b","mode":"ensure_prefix","value":"p/"},{"path":"b","mode":"ensure_suffix","value":"!"}`),
			`{"a":"p/x","b":"x"}`, `{"a":"p/x","b":"p/x!"}`},
		"cases":           {ops(`{"path":"a","mode":"to_lower"},{"path":"b","mode":"to_upper"}`), `{"a":"ABC","b":"abc"}`, `{"a":"abc","b":"ABC"}`},
		"replace":         {ops(`{"path":"model","mode":"replace","from":"openai/","to":""}`), `{"model":"openai/gpt"}`, `{"model":"gpt"}`},
		"regex":           {ops(`{"path":"model","mode":"regex_replace","from":"^gpt-(\\d)","to":"g$1"}`), `{"model":"gpt-4o"}`, `{"model":"g4o"}`},
		"prune by type":   {ops(`{"path":"messages","mode":"prune_objects","value":"thinking"}`), `{"messages":[{"c":[{"type":"thinking"},{"type":"text"}, {"type":"thinking"}]}]}`, `{"messages":[{"c":[{"type":"text"}]}]}`},
		"prune all":       {ops(`{"path":"tools","mode":"prune_objects","value":{"where":{"type":"x"}}}`), `{"tools":[ {"type":"x"} , {"type":"x"} ]}`, `{"tools":[  ]}`},
		"prune shallow":   {ops(`{"path":"tools","mode":"prune_objects","value":{"type":"x","recursive":false}}`), `{"tools":[{"type":"y","in":[{"type":"x"}]},{"type":"x"}]}`, `{"tools":[{"type":"y","in":[{"type":"x"}]}]}`},
		"prune members":   {ops(`{"mode":"prune_objects","value":"x"}`), `{"a":{"type":"x"},"b":{"type":"y"},"c":{"type":"x"}}`, `{"b":{"type":"y"}}`},
		"prune logic":     {ops(`{"path":"t","mode":"prune_objects","value":{"logic":"OR","conditions":[{"path":"a","mode":"full","value":1},{"path":"a","mode":"gt","value":5}]}}`), `{"t":[{"a":1},{"a":2},{"a":9}]}`, `{"t":[{"a":2}]}`},
		"condition or":    {ops(`{"path":"a","mode":"set","value":1,"conditions":[{"path":"model","mode":"prefix","value":"x"},{"path":"model","mode":"contains","value":"4o"}]}`), `{"model":"gpt-4o"}`, `{"model":"gpt-4o","a":1}`},
		"condition and":   {ops(`{"path":"a","mode":"set","value":1,"logic":"AND","conditions":[{"path":"model","mode":"prefix","value":"x"},{"path":"model","mode":"contains","value":"4o"}]}`), `{"model":"gpt-4o"}`, `{"model":"gpt-4o"}`},
		"condition not":   {ops(`{"path":"a","mode":"set","value":1,"conditions":[{"path":"model","mode":"suffix","value":"x","invert":true}]}`), `{"model":"gpt"}`, `{"model":"gpt","a":1}`},
		"missing key":     {ops(`{"path":"a","mode":"set","value":1,"conditions":[{"path":"n","mode":"full","value":2}]},{"path":"b","mode":"set","value":1,"conditions":[{"path":"n","mode":"full","value":2,"invert":true,"pass_missing_key":true}]}`), `{}`, `{"b":1}`},
		"numbers":         {ops(`{"path":"max_tokens","mode":"set","value":100,"conditions":[{"path":"max_tokens","mode":"gt","value":100}]}`), `{"max_tokens":1e3}`, `{"max_tokens":100}`},
		"context":         {ops(`{"path":"a","mode":"set","value":1,"conditions":[{"path":"original_model","mode":"full","value":"asked"}]}`), `{}`, `{"a":1}`},
		"condition short": {ops(`{"path":"a","mode":"set","value":1,"conditions":{"x":true,"y":null}}`), `{"x":true,"y":null}`, `{"x":true,"y":null,"a":1}`},
		"query condition": {ops(`{"path":"a","mode":"set","value":1,"conditions":[{"path":"tools.#(type==\"x\").type","mode":"full","value":"x"}]}`), `{"tools":[{"type":"x"}]}`, `{"tools":[{"type":"x"}],"a":1}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := ParseParams([]byte(c.params))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Apply([]byte(c.body), ParamContext{OriginalModel: "asked", UpstreamModel: "sent"})
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestParamsReturnError(t *testing.T) {
	p, err := ParseParams([]byte(`{"operations":[{"mode":"return_error","value":{"message":"no","status_code":422,"code":"c","type":"t","skip_retry":false},"conditions":[{"path":"model","value":"x"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var e *ParamError
	if _, err := p.Apply([]byte(`{"model":"x"}`), ParamContext{}); !errors.As(err, &e) || *e != (ParamError{Status: 422, Type: "t", Code: "c", Message: "no"}) {
		t.Fatalf("%v %+v", err, e)
	}
	if _, err := p.Apply([]byte(`{"model":"y"}`), ParamContext{}); err != nil {
		t.Fatal(err)
	}
}

func TestParamsRefusedBodies(t *testing.T) {
	cases := map[string]struct{ op, body string }{
		"append to nothing":  {`{"mode":"append","path":"a","value":1}`, `{}`},
		"append to a number": {`{"mode":"append","path":"a","value":1}`, `{"a":1}`},
		"move nothing":       {`{"mode":"move","from":"a","to":"b"}`, `{}`},
		"text of a number":   {`{"mode":"to_lower","path":"a"}`, `{"a":1}`},
		"index too low":      {`{"mode":"set","path":"a.-3","value":1}`, `{"a":[1]}`},
		"duplicate":          {`{"mode":"delete","path":"tools"}`, `{"tools":1,"tools":2}`},
		"duplicate below":    {`{"mode":"delete","path":"x"}`, `{"a":[{"b":1,"\u0062":2}]}`},
		"many duplicates":    {`{"mode":"delete","path":"x"}`, `{"1":0,"2":0,"3":0,"4":0,"5":0,"6":0,"7":0,"8":0,"9":0,"10":0,"11":0,"12":0,"13":0,"14":0,"15":0,"16":0,"17":0,"18":0,"17":1}`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := ParseParams([]byte(`{"operations":[` + c.op + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			if out, err := p.Apply([]byte(c.body), ParamContext{}); err == nil {
				t.Fatalf("got %s", out)
			}
		})
	}
}

func TestCheckParams(t *testing.T) {
	for _, ok := range []string{`{}`, `{"a":1}`, `{"operations":{"a":1}}`, `{"operations":[]}`} {
		if err := CheckParams([]byte(ok)); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	cases := map[string]string{
		`[]`:                  "not a JSON object",
		`{`:                   "invalid JSON",
		`{"a":1,"a":2}`:       `"a" occurs twice`,
		`{"operations":[1]}`:  "operations",
		`{"operations":[{}]}`: "operations[0]: : unknown mode",
		`{"operations":[{"mode":"set","path":"a"}]}`:                                                      "value is required",
		`{"operations":[{"mode":"set","value":1}]}`:                                                       "path is required",
		`{"operations":[{"mode":"set","path":"a.#.b","value":1}]}`:                                        "does not name one place",
		`{"operations":[{"mode":"set","path":"a..b","value":1}]}`:                                         "empty part",
		`{"operations":[{"mode":"set","path":"a.99999999","value":1}]}`:                                   "too large",
		`{"operations":[{"mode":"move","from":"a"}]}`:                                                     "to is required",
		`{"operations":[{"mode":"regex_replace","path":"a","from":"("}]}`:                                 "error parsing regexp",
		`{"operations":[{"mode":"set_header","path":"X-A","value":"b"}]}`:                                 "header_override",
		`{"operations":[{"mode":"return_error","value":{}}]}`:                                             "message is required",
		`{"operations":[{"mode":"return_error","value":{"message":"x","status_code":200}}]}`:              "no error status",
		`{"operations":[{"mode":"prune_objects","path":"a","value":{}}]}`:                                 "no condition",
		`{"operations":[{"mode":"delete","path":"a","logic":"XOR"}]}`:                                     "XOR",
		`{"operations":[{"mode":"delete","path":"a","conditions":[{"path":"b","mode":"like"}]}]}`:         "like",
		`{"operations":[{"mode":"delete","path":"a","conditions":[{"path":"b","mode":"full"}]}]}`:         "value is required",
		`{"operations":[{"mode":"regex_replace","path":"a","from":"` + strings.Repeat("a", 2000) + `"}]}`: "1024",
	}
	for in, want := range cases {
		if err := CheckParams([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80s: got %v, want %s", in, err, want)
		}
	}
}

// FuzzParams: whatever the body, the outcome is valid JSON or an error, and no
// operation hangs or panics.
func FuzzParams(f *testing.F) {
	f.Add([]byte(`{"a":"x","b":[1,2]}`), []byte(`{"operations":[{"mode":"append","path":"a","value":"y"},{"mode":"move","from":"b.-1","to":"c.d"}]}`))
	f.Add([]byte(`{"a.b":{"type":"x"}}`), []byte(`{"x":1,"operations":[{"mode":"prune_objects","value":"x"},{"mode":"set","path":"a\\.b.c","value":[]}]}`))
	f.Add([]byte(`{"m":[{"\u0061":1}]}`), []byte(`{"operations":[{"mode":"delete","path":"m.0.a","conditions":[{"path":"m.-1.a","mode":"gte","value":1}]}]}`))
	f.Fuzz(func(t *testing.T, body, params []byte) {
		p, err := ParseParams(params)
		if err != nil || !json.Valid(body) {
			return
		}
		d, _ := Scan(anything, body)
		if d.Root != Object {
			return
		}
		out, err := p.Apply(body, ParamContext{OriginalModel: "a", UpstreamModel: "b"})
		if err == nil && !json.Valid(out) {
			t.Fatalf("%s\n%s\n-> invalid %s", body, params, out)
		}
	})
}
