package web

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// coreCodes reads the codes from the source, so that a new one is not forgotten.
func coreCodes(t *testing.T) []core.Code {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../error.go", nil, 0)
	must(t, err)
	var out []core.Code
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Code" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			must(t, err)
			out = append(out, core.Code(text))
		}
		return true
	})
	return out
}

func TestErrorTable(t *testing.T) {
	codes := coreCodes(t)
	if len(codes) < 25 || len(codes) != len(errorTable) {
		t.Errorf("core has %d codes, the table %d rows", len(codes), len(errorTable))
	}
	claude := map[string]bool{"invalid_request_error": true, "authentication_error": true, "billing_error": true, "permission_error": true, "not_found_error": true,
		"request_too_large": true, "rate_limit_error": true, "api_error": true, "overloaded_error": true, "timeout_error": true}
	gemini := map[string]bool{"INVALID_ARGUMENT": true, "NOT_FOUND": true, "UNIMPLEMENTED": true, "UNAUTHENTICATED": true, "PERMISSION_DENIED": true, "UNAVAILABLE": true,
		"FAILED_PRECONDITION": true, "RESOURCE_EXHAUSTED": true, "DEADLINE_EXCEEDED": true, "INTERNAL": true, "ABORTED": true}
	for _, code := range codes {
		row, ok := errorTable[code]
		if !ok {
			t.Errorf("%s has no row", code)
			continue
		}
		if row.status < 400 || row.status > 599 || row.openai == "" || !claude[row.claude] || !gemini[row.gemini] || row.manage != 200 && row.manage < 400 {
			t.Errorf("%s: %+v", code, row)
		}
	}
}

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		name string
		e    *core.Error
		want map[llm.Format][2]string // format -> status, type
	}{
		{"quota", core.Errorf(core.CodeUserQuota, "m"), map[llm.Format][2]string{llm.OpenAI: {"403", "new_api_error"}, llm.Claude: {"403", "billing_error"}, llm.Gemini: {"403", "PERMISSION_DENIED"}}},
		{"model", core.Errorf(core.CodeModelNotFound, "m"), map[llm.Format][2]string{llm.OpenAI: {"503", "new_api_error"}, llm.Claude: {"503", "api_error"}, llm.Gemini: {"503", "UNAVAILABLE"}}},
		{"upstream's own", &core.Error{Code: core.CodeUpstreamStatus, Message: "m", Status: 429, Type: "tokens"}, map[llm.Format][2]string{llm.OpenAI: {"429", "tokens"}, llm.Claude: {"429", "rate_limit_error"}, llm.Gemini: {"429", "RESOURCE_EXHAUSTED"}}},
		{"upstream is overloaded", &core.Error{Code: core.CodeUpstreamStatus, Message: "m", Status: 529}, map[llm.Format][2]string{llm.OpenAI: {"529", "new_api_error"}, llm.Claude: {"529", "overloaded_error"}, llm.Gemini: {"529", "UNAVAILABLE"}}},
		{"unknown code", &core.Error{Code: "no such", Message: "m"}, map[llm.Format][2]string{llm.OpenAI: {"500", "new_api_error"}, llm.Responses: {"500", "new_api_error"}}},
		{"path", core.Errorf(core.CodeInvalidURL, "m"), map[llm.Format][2]string{llm.OpenAI: {"404", "invalid_request_error"}, llm.Claude: {"404", "not_found_error"}}},
	} {
		for format, want := range c.want {
			got := Describe(format, c.e)
			if strconv.Itoa(got.Status) != want[0] || got.Type != want[1] || got.Message != "m" {
				t.Errorf("%s, %s: %+v, want %v", c.name, format, got, want)
			}
		}
	}
	for message, want := range map[string]string{"must not be empty": "messages: must not be empty", "too many messages": "too many messages"} {
		if d := Describe(llm.Claude, &core.Error{Code: core.CodeInvalidRequest, Message: message, Param: "messages"}); d.Message != want {
			t.Errorf("%q, want %q", d.Message, want)
		}
	}
	if d := Describe(llm.OpenAI, &core.Error{Code: core.CodeStoreUnavailable, RetryAfter: 3 * time.Second}); d.RetryAfter != 3*time.Second {
		t.Errorf("RetryAfter %s", d.RetryAfter)
	}
}

func TestAsError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want core.Code
	}{
		{core.Errorf(core.CodeConflict, "x"), core.CodeConflict},
		{fmt.Errorf("wrapped: %w", core.Errorf(core.CodeNotFound, "x")), core.CodeNotFound},
		{fmt.Errorf("query: %w", context.DeadlineExceeded), core.CodeStoreUnavailable},
		{errors.New("secret cause"), core.CodeInternal},
	} {
		e := asError(c.err)
		if e.Code != c.want || e.Code == core.CodeInternal && e.Message != "internal error" {
			t.Errorf("%v: %s %q", c.err, e.Code, e.Message)
		}
	}
}
