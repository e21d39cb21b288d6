package core

import "log/slog"

// Secret is a text that must not be seen: a key, a password, a cookie. It
// prints, logs and encodes as "[redacted]"; Reveal is the only way to the text.
type Secret string

const redacted = "[redacted]"

// Reveal returns the text itself. Every call is a place that may leak.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString implements fmt.GoStringer, so that %#v does not show the text.
func (s Secret) GoString() string { return s.String() }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText implements encoding.TextMarshaler for JSON, YAML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
