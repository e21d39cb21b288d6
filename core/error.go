package core

import (
	"errors"
	"fmt"
	"time"
)

// Code names an error that a client sees. Codes that New API has keep its
// spelling, since clients match on them. Each code has a row in the table of
// core/web, which gives it a status and a type in each wire format.
type Code string

// The codes.
const (
	CodeInvalidRequest   Code = "invalid_request"                // the caller's fault: malformed, missing, out of range
	CodeInvalidURL       Code = "invalid_url"                    // no such route
	CodeMethodNotAllowed Code = "method_not_allowed"             // the path exists with another method
	CodeUnsupportedMedia Code = "unsupported_media_type"         // content type or encoding that the route cannot take
	CodeNotImplemented   Code = "api_not_implemented"            // a known route of the vendor that is not offered
	CodeUnauthorized     Code = "invalid_api_key"                // no credential, an unknown, disabled or expired one
	CodeAccessDenied     Code = "access_denied"                  // known caller, but not from here, not this group, not this channel
	CodeForbidden        Code = "forbidden"                      // the role does not suffice
	CodeUserDisabled     Code = "user_disabled"                  // the account was disabled
	CodeModelForbidden   Code = "model_not_allowed"              // the token may not use this model
	CodeModelNotFound    Code = "model_not_found"                // no channel serves this model for this group
	CodeModelPrice       Code = "model_price_error"              // the model has no price
	CodeUserQuota        Code = "insufficient_user_quota"        // the user's balance does not cover the request
	CodeTokenQuota       Code = "pre_consume_token_quota_failed" // the token's balance does not cover the request
	CodeRateLimited      Code = "rate_limit_exceeded"            // a limit of this gateway
	CodeBodyTooLarge     Code = "read_request_body_failed"       // over server.max_request_body
	CodeReadBody         Code = "bad_request_body"               // the body ended early or does not decode
	CodeOverloaded       Code = "system_overloaded"              // the node's own bounds
	CodeStarting         Code = "node_starting"                  // the node does not serve yet
	CodeStoreUnavailable Code = "database_unavailable"           // the database does not answer
	CodeUpstreamConnect  Code = "do_request_failed"              // upstream could not be reached
	CodeUpstreamTimeout  Code = "upstream_timeout"               // upstream was silent for too long
	CodeUpstreamStatus   Code = "bad_response_status_code"       // upstream answered with an error
	CodeUpstreamBody     Code = "bad_response_body"              // upstream's answer was cut or is no answer
	CodeChannelKey       Code = "channel:no_available_key"       // the channel has no usable key
	CodeChannelConfig    Code = "channel:invalid_config"         // the channel's own configuration is wrong
	CodeConvert          Code = "convert_request_failed"         // no channel speaks the caller's format
	CodeNotFound         Code = "not_found"                      // management: no such row
	CodeConflict         Code = "conflict"                       // management: the name is taken, the state forbids it
	CodeInternal         Code = "internal_error"                 // a bug or an unexpected fault
)

// Error is what the edge shows: a code and a message that says what is wrong,
// where, and what to do next. The cause stays with the operator: it is logged
// and never sent.
type Error struct {
	Code       Code
	Message    string
	Param      string        // the field that is wrong, if there is one
	Status     int           // HTTP status; 0 means the code's own
	Type       string        // upstream's error type, when an upstream error is passed on
	RetryAfter time.Duration // > 0 sets Retry-After
	Err        error         // cause, for the log
}

// Error implements error. It includes the cause and is for logs only.
func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error without a cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// WrapError makes an Error around a cause.
func WrapError(code Code, err error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: err}
}

// AsError finds the Error in err's chain; anything else becomes
// CodeInternal with err as its cause.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: "internal error", Err: err}
}

// IsCode reports whether err is an Error with this code.
func IsCode(err error, code Code) bool {
	var e *Error
	return errors.As(err, &e) && e.Code == code
}
