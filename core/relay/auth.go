package relay

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/core"
)

const (
	wsKeyPrefix    = "openai-insecure-api-key."
	midjourneyWord = "midjourney-proxy"
	maxKeyLength   = 512
)

// Authenticate finds the credential of a request, in any of the forms that New
// API takes, and checks what needs no body: the states of token and user, the
// address, and the right to pin a channel. pinned is the channel id of
// sk-KEY-CHANNELID, 0 for none. Where the key is known but may not be used, the
// credential comes back with the error.
func (rl *Relay) Authenticate(r *http.Request) (cred core.Credential, pinned int64, err error) {
	key, pin := splitKey(credentialOf(r))
	if key == "" {
		return cred, 0, core.Errorf(core.CodeUnauthorized, "No API key was given. Send it as \"Authorization: Bearer sk-…\".")
	}
	if len(key) > maxKeyLength {
		return cred, 0, errKey()
	}
	cred, err = rl.o.Tokens.Lookup(r.Context(), key)
	if err != nil {
		var e *core.Error
		if errors.As(err, &e) {
			return core.Credential{}, 0, e
		}
		return core.Credential{}, 0, core.WrapError(core.CodeInternal, err, "the key could not be checked")
	}
	if err := rl.admit(cred, r); err != nil {
		return cred, 0, err
	}
	if pin == "" {
		return cred, 0, nil
	}
	if cred.User.Role < core.RoleAdmin {
		return cred, 0, core.Errorf(core.CodeAccessDenied, "Only administrators may name a channel in their key. Use the key without \"-%s\".", clip(pin, 20))
	}
	pinned, err = strconv.ParseInt(pin, 10, 64)
	if err != nil || pinned <= 0 {
		return cred, 0, core.Errorf(core.CodeInvalidRequest, "The channel id at the end of the key is not a positive number.")
	}
	return cred, pinned, nil
}

// admit checks the states of a known token and its owner.
func (rl *Relay) admit(cred core.Credential, r *http.Request) error {
	switch t := cred.Token; {
	case !cred.User.Enabled():
		return core.Errorf(core.CodeUserDisabled, "The account that this API key belongs to is disabled.")
	case len(t.AllowIPs) > 0 && !t.AllowsIP(rl.o.ClientIP(r)):
		return core.Errorf(core.CodeAccessDenied, "This API key may not be used from this address.")
	case t.Status == core.TokenExpired, !t.ExpiresAt.IsZero() && t.Expired(rl.o.Now()):
		return core.Errorf(core.CodeUnauthorized, "This API key has expired.")
	case t.Status != core.TokenEnabled && t.Status != core.TokenExhausted:
		return core.Errorf(core.CodeUnauthorized, "This API key is disabled.")
	}
	// Exhaustion is the ledger's to say: the balance here is as old as the cache.
	return nil
}

func errKey() *core.Error {
	return core.Errorf(core.CodeUnauthorized, "Invalid API key. Check the key, or create one in the console under Tokens.")
}

// credentialOf reads the raw credential. The order is New API's: a later form
// replaces an earlier one only where this says so.
func credentialOf(r *http.Request) string {
	h := r.Header
	if ws := h.Get("Sec-Websocket-Protocol"); ws != "" {
		if k := websocketKey(ws); k != "" {
			return k
		}
	}
	path := r.URL.Path
	models := strings.Contains(path, "/v1/models")
	if models || strings.Contains(path, "/v1/messages") {
		if k := h.Get("X-Api-Key"); k != "" {
			return bare(k)
		}
	}
	if models || strings.HasPrefix(path, "/v1beta/models") || strings.HasPrefix(path, "/v1beta/openai/models") {
		if k := h.Get("X-Goog-Api-Key"); k != "" {
			return bare(k)
		}
		if k := queryKey(r.URL.RawQuery); k != "" {
			return bare(k)
		}
	}
	k := bare(h.Get("Authorization"))
	if k == "" || k == midjourneyWord {
		if mj := h.Get("Mj-Api-Secret"); mj != "" {
			return bare(mj)
		}
	}
	return k
}

// queryKey is the value of ?key=, without parsing a query that has none.
func queryKey(rawQuery string) string {
	if !strings.Contains(rawQuery, "key=") {
		return ""
	}
	q, _ := url.ParseQuery(rawQuery)
	return q.Get("key")
}

func websocketKey(header string) string {
	for item := range strings.SplitSeq(header, ",") {
		if k, ok := strings.CutPrefix(strings.TrimSpace(item), wsKeyPrefix); ok {
			return strings.TrimSpace(k)
		}
	}
	return ""
}

// bare removes a leading "Bearer", in any case, and blanks.
func bare(v string) string {
	v = strings.TrimSpace(v)
	if len(v) > 7 && strings.EqualFold(v[:7], "Bearer ") {
		v = strings.TrimSpace(v[7:])
	}
	return v
}

// splitKey removes the optional sk- and parts the key from a channel id.
func splitKey(v string) (key, channel string) {
	v = strings.TrimPrefix(v, "sk-")
	key, channel, _ = strings.Cut(v, "-")
	return key, channel
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "…"
}
