package web

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// errorRow is what a code looks like to each kind of caller.
type errorRow struct {
	status int    // HTTP status on relay routes
	openai string // error.type of OpenAI and Responses
	claude string // error.type of Claude
	gemini string // error.status of Gemini
	manage int    // HTTP status on management routes: 200 for business errors, as New API
	auth   string // New API's own code on management routes, where it has one
}

// New API's type of its own errors; clients of it match on the word.
const ownType = "new_api_error"

// errorTable has a row for every core.Code.
var errorTable = map[core.Code]errorRow{
	core.CodeInvalidRequest:   {400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", 200, ""},
	core.CodeInvalidURL:       {404, "invalid_request_error", "not_found_error", "NOT_FOUND", 404, ""},
	core.CodeMethodNotAllowed: {405, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", 405, ""},
	core.CodeUnsupportedMedia: {415, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", 415, ""},
	core.CodeNotImplemented:   {501, ownType, "api_error", "UNIMPLEMENTED", 501, ""},
	core.CodeUnauthorized:     {401, ownType, "authentication_error", "UNAUTHENTICATED", 401, "AUTH_UNAUTHORIZED"},
	core.CodeAccessDenied:     {403, ownType, "permission_error", "PERMISSION_DENIED", 403, "AUTH_INSUFFICIENT_PRIVILEGE"},
	core.CodeForbidden:        {403, ownType, "permission_error", "PERMISSION_DENIED", 403, "AUTH_INSUFFICIENT_PRIVILEGE"},
	core.CodeUserDisabled:     {403, ownType, "permission_error", "PERMISSION_DENIED", 401, "AUTH_USER_DISABLED"},
	core.CodeModelForbidden:   {403, ownType, "permission_error", "PERMISSION_DENIED", 200, ""},
	core.CodeModelNotFound:    {503, ownType, "api_error", "UNAVAILABLE", 200, ""},
	core.CodeModelPrice:       {400, ownType, "invalid_request_error", "FAILED_PRECONDITION", 200, ""},
	core.CodeUserQuota:        {403, ownType, "billing_error", "PERMISSION_DENIED", 200, ""},
	core.CodeTokenQuota:       {403, ownType, "billing_error", "PERMISSION_DENIED", 200, ""},
	core.CodeRateLimited:      {429, ownType, "rate_limit_error", "RESOURCE_EXHAUSTED", 429, ""},
	core.CodeBodyTooLarge:     {413, "invalid_request_error", "request_too_large", "INVALID_ARGUMENT", 413, ""},
	core.CodeReadBody:         {400, "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", 400, ""},
	core.CodeOverloaded:       {503, ownType, "overloaded_error", "UNAVAILABLE", 503, ""},
	core.CodeStarting:         {503, ownType, "overloaded_error", "UNAVAILABLE", 503, ""},
	core.CodeStoreUnavailable: {503, ownType, "api_error", "UNAVAILABLE", 503, ""},
	core.CodeUpstreamConnect:  {502, ownType, "api_error", "UNAVAILABLE", 200, ""},
	core.CodeUpstreamTimeout:  {504, ownType, "timeout_error", "DEADLINE_EXCEEDED", 200, ""},
	core.CodeUpstreamStatus:   {502, ownType, "api_error", "UNAVAILABLE", 200, ""},
	core.CodeUpstreamBody:     {502, ownType, "api_error", "UNAVAILABLE", 200, ""},
	core.CodeChannelKey:       {503, ownType, "api_error", "UNAVAILABLE", 200, ""},
	core.CodeChannelConfig:    {500, ownType, "api_error", "INTERNAL", 200, ""},
	core.CodeConvert:          {400, ownType, "invalid_request_error", "INVALID_ARGUMENT", 200, ""},
	core.CodeNotFound:         {404, "invalid_request_error", "not_found_error", "NOT_FOUND", 200, ""},
	core.CodeConflict:         {409, "invalid_request_error", "invalid_request_error", "ABORTED", 200, ""},
	core.CodeInternal:         {500, ownType, "api_error", "INTERNAL", 500, "AUTH_INTERNAL_ERROR"},
}

// rowOf finds a code's row; a code without one is an internal error.
func rowOf(code core.Code) errorRow {
	if row, ok := errorTable[code]; ok {
		return row
	}
	return errorTable[core.CodeInternal]
}

// Describe puts an error into the words of a wire format. The request id is the
// caller's to add. A status or type that e carries itself wins over the table's:
// upstream's own are passed on that way.
func Describe(format llm.Format, e *core.Error) llm.Error {
	row := rowOf(e.Code)
	out := llm.Error{Status: row.status, Code: string(e.Code), Param: e.Param, Message: e.Message, RetryAfter: e.RetryAfter}
	if e.Status != 0 && e.Status != row.status {
		out.Status = e.Status
		row = rowOfStatus(e.Status, row)
	}
	switch format {
	case llm.Claude:
		out.Type = row.claude
	case llm.Gemini:
		out.Type = row.gemini
	default:
		out.Type = row.openai
		if e.Type != "" {
			out.Type = e.Type
		}
	}
	if e.Code == core.CodeInvalidURL {
		out.Code = "" // as New API
	}
	if e.Code == core.CodeInvalidRequest && e.Type == "" && !strings.Contains(e.Message, e.Param) {
		out.Message = e.Param + ": " + e.Message // not every format has a place for the field
	}
	return out
}

// rowOfStatus finds the words for a status that is not the code's own, so that
// a client that matches on them sees the same thing as one that looks at the status.
func rowOfStatus(status int, own errorRow) errorRow {
	code := core.Code("")
	switch {
	case status == http.StatusUnauthorized:
		code = core.CodeUnauthorized
	case status == http.StatusForbidden:
		code = core.CodeForbidden
	case status == http.StatusNotFound:
		code = core.CodeNotFound
	case status == http.StatusRequestEntityTooLarge:
		code = core.CodeBodyTooLarge
	case status == http.StatusTooManyRequests:
		code = core.CodeRateLimited
	case status == http.StatusGatewayTimeout:
		code = core.CodeUpstreamTimeout
	case status == http.StatusServiceUnavailable, status == 529:
		code = core.CodeOverloaded
	case status >= 500:
		code = core.CodeUpstreamStatus
	case status >= 400:
		code = core.CodeInvalidRequest
	default:
		return own
	}
	row := errorTable[code]
	row.openai = own.openai
	return row
}

// asError is core.AsError with the errors of contexts told apart: a management
// deadline that ran out means that the database did not answer.
func asError(err error) *core.Error {
	var e *core.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) {
		e = core.WrapError(core.CodeStoreUnavailable, err, "the database does not answer; try again shortly")
		e.RetryAfter = retryStore
		return e
	}
	return core.AsError(err)
}
