package llm

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestQuote(t *testing.T) {
	for _, in := range []string{"", "plain", "a\"b\\c/d", "\x00\x1f\n\r\t\x7f", "héllo 日本 😀", "a\xffb\xc3", "<script>&\u2028"} {
		q := Quote(in)
		var got string
		if err := json.Unmarshal([]byte(q), &got); err != nil || got != strings.ToValidUTF8(in, "\ufffd") {
			t.Errorf("%q: %s %v", in, q, err)
		}
	}
}

func TestSplices(t *testing.T) {
	body := []byte("0123456789")
	var s Splices
	if got := s.Apply(body); &got[0] != &body[0] {
		t.Error("copied without an edit")
	}
	s.Insert(10, "end")
	s.Replace(Value{Start: 2, End: 4}, "xyz")
	s.Insert(0, "a")
	s.Insert(0, "b")
	if got := string(s.Apply(body)); got != "ab01xyz456789end" || string(body) != "0123456789" {
		t.Error(got)
	}
}

func TestParseErrorBody(t *testing.T) {
	cases := map[string]struct{ body, typ, code, message string }{
		"OpenAI":      {`{"error":{"message":"Rate limit","type":"requests","param":null,"code":"rate_limit_exceeded"}}`, "requests", "rate_limit_exceeded", "Rate limit"},
		"null code":   {`{"error":{"message":"x","type":"t","code":null}}`, "t", "", "x"},
		"number code": {`{"error":{"message":"x","code":400}}`, "", "400", "x"},
		"Claude":      {`{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"r"}`, "overloaded_error", "", "Overloaded"},
		"Gemini":      {`{"error":{"code":429,"message":"Quota","status":"RESOURCE_EXHAUSTED"}}`, "RESOURCE_EXHAUSTED", "429", "Quota"},
		"Gemini list": {"[{\"error\":{\"code\":400,\"message\":\"Bad\",\"status\":\"INVALID_ARGUMENT\"}}\n]", "INVALID_ARGUMENT", "400", "Bad"},
		"a text":      {`{"error":"model not found"}`, "", "", "model not found"},
		"xAI":         {`{"code":"invalid","error":"Incorrect API key"}`, "", "invalid", "Incorrect API key"},
		"Ali":         {`{"code":"InvalidApiKey","message":"Invalid API-key","request_id":"r"}`, "", "InvalidApiKey", "Invalid API-key"},
		"Mistral":     {`{"object":"error","message":"Unauthorized","type":"invalid_request","code":1000}`, "invalid_request", "1000", "Unauthorized"},
		"FastAPI":     {`{"detail":[{"loc":["body"],"msg":"field required","type":"value_error.missing"}]}`, "value_error.missing", "", "field required"},
		"Jina":        {`{"detail":"no balance"}`, "", "", "no balance"},
		"Baidu":       {`{"error_code":110,"error_msg":"Access token invalid"}`, "", "110", "Access token invalid"},
		"MiniMax":     {`{"base_resp":{"status_code":1004,"status_msg":"login fail"}}`, "", "1004", "login fail"},
		"Tencent":     {`{"Response":{"Error":{"Code":"AuthFailure","Message":"bad"},"RequestId":"r"}}`, "", "AuthFailure", "bad"},
		"Cloudflare":  {`{"success":false,"errors":[{"code":10000,"message":"Authentication error"}]}`, "", "10000", "Authentication error"},
		"Responses":   {`{"type":"response.failed","response":{"error":{"code":"server_error","message":"failed"}}}`, "", "server_error", "failed"},
	}
	for name, c := range cases {
		typ, code, message, ok := ParseErrorBody([]byte(c.body))
		if !ok || typ != c.typ || code != c.code || message != c.message {
			t.Errorf("%s: %q %q %q %v", name, typ, code, message, ok)
		}
	}
	for _, in := range []string{"", "<html>502</html>", "{", `{"ok":true}`, `"text"`, `[]`, `{"error":{"message":" "}}`} {
		if _, _, m, ok := ParseErrorBody([]byte(in)); ok {
			t.Errorf("%s: %q", in, m)
		}
	}
	if got := WithRequestID("x (request id: a)", "b"); got != "x (request id: a)" {
		t.Error(got)
	}
}

func TestSchemaPanics(t *testing.T) {
	for name, paths := range map[string][]Path{"no parent": {{At: "a.b"}}, "twice": {{At: "a"}, {At: "a"}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			NewSchema(paths...)
		}()
	}
}

func TestContentTypes(t *testing.T) {
	for ct, want := range map[string][3]bool{
		"application/json; charset=utf-8": {true, false, true}, "application/problem+json": {true, false, true}, "Text/Event-Stream": {false, true, true},
		"audio/mpeg": {false, false, false}, "": {false, false, true}, "text/plain": {false, false, true},
	} {
		if got := [3]bool{IsJSON(ct), IsEventStream(ct), IsText(ct)}; got != want {
			t.Errorf("%s: %v", ct, got)
		}
	}
}
