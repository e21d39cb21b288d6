package web

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// authVersion is a constant of New API that its console looks for.
const authVersion = "864b7076dbcd0a3c01b5520316720ebf"

// identify finds out who calls and refuses who may not.
func (s *Server) identify(c *call) error {
	switch c.route.caller {
	case callAnyone, callRelay:
		return nil
	case callToken, callTokenRead:
		return s.identifyToken(c)
	}
	err := s.identifyUser(c)
	if c.route.caller == callVisitor {
		if err != nil && !core.IsCode(err, core.CodeStoreUnavailable) {
			c.user, c.session, c.authCode = nil, nil, ""
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	if c.user == nil {
		return core.Errorf(core.CodeUnauthorized, "not logged in: log in for a session cookie, or send an access token in Authorization")
	}
	c.w.Header().Set("Auth-Version", authVersion)
	if c.user.Role < c.route.caller.role() {
		return core.Errorf(core.CodeForbidden, "your role does not allow this")
	}
	return nil
}

// identifyUser reads the session cookie, else the access token. A guest is no
// error; a credential that is none is.
func (s *Server) identifyUser(c *call) error {
	err := s.bySession(c)
	if err != nil || c.user == nil {
		if bearer := bearerOf(c.r); bearer != "" {
			err = s.byAccessToken(c, bearer)
		}
	}
	if err != nil || c.user == nil {
		return err
	}
	if !c.user.Enabled() {
		c.user, c.session = nil, nil
		return core.Errorf(core.CodeUserDisabled, "this account is disabled")
	}
	if want := c.r.Header.Get("New-Api-User"); want != "" && want != strconv.FormatInt(c.user.ID, 10) {
		c.user, c.session = nil, nil
		return core.Errorf(core.CodeUnauthorized, "header New-Api-User names another user than the credential")
	}
	return nil
}

func (s *Server) bySession(c *call) error {
	id, ok := s.sessionID(c.r)
	if !ok {
		return nil
	}
	session, user, err := s.o.Store.Session(c.ctx(), id)
	if err != nil {
		if core.IsCode(err, core.CodeUnauthorized) || core.IsCode(err, core.CodeNotFound) {
			c.authCode = "AUTH_SESSION_REVOKED"
			return core.WrapError(core.CodeUnauthorized, err, "the session has ended; log in again")
		}
		return err
	}
	c.session, c.user = session, user
	if now := s.o.Now(); now.Sub(session.LastSeenAt) > touchEvery {
		if err := s.o.Store.TouchSession(c.ctx(), id, now); err != nil {
			s.o.Logger.Debug("use of a session not noted", "user_id", user.ID, "error", err)
		}
	}
	return nil
}

// touchEvery is how fresh a session's last use is kept: not a write a request.
const touchEvery = 5 * time.Minute

func (s *Server) byAccessToken(c *call, bearer string) error {
	c.authCode = ""
	user, err := s.o.Store.UserByAccessToken(c.ctx(), core.Secret(bearer))
	if err != nil {
		if core.IsCode(err, core.CodeNotFound) || core.IsCode(err, core.CodeUnauthorized) {
			return core.WrapError(core.CodeUnauthorized, err, "the access token is not valid")
		}
		return err
	}
	c.session, c.user = nil, user
	return nil
}

// bearerOf reads Authorization, with or without "Bearer". Other schemes belong
// to proxies in front.
func bearerOf(r *http.Request) string {
	text := strings.TrimSpace(r.Header.Get("Authorization"))
	scheme, rest, ok := strings.Cut(text, " ")
	if !ok {
		return text
	}
	if strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(rest)
	}
	return ""
}

// identifyToken asks the relay, which knows every form of an API key.
func (s *Server) identifyToken(c *call) error {
	cred, _, err := s.o.Relay.Authenticate(c.r)
	if err != nil {
		shown := c.route.caller == callTokenRead && core.IsCode(err, core.CodeUnauthorized) && cred.Token != nil
		if !shown || !readable(cred.Token.ShownStatus(s.o.Now())) {
			return err
		}
	}
	c.token = cred
	return nil
}

func readable(status core.TokenStatus) bool {
	return status == core.TokenExpired || status == core.TokenExhausted
}

// originCheck is the cross-origin protection for one configuration.
type originCheck struct {
	trusted []string
	p       *http.CrossOriginProtection
}

// checkOrigin refuses what a page of another origin makes a browser send. Calls
// with an access token or an API key need no protection: a browser does not add
// those by itself.
func (s *Server) checkOrigin(c *call) error {
	byCookie := c.session != nil || c.route.caller == callAnyone || c.route.caller == callVisitor && c.user == nil
	if !c.route.unsafe() || !byCookie || c.route.caller == callRelay {
		return nil
	}
	r := c.r
	if c.route.mutates {
		r = r.Clone(c.ctx())
		r.Method = http.MethodPost
	}
	if err := s.crossOriginProtection().Check(r); err != nil {
		c.authCode = "AUTH_ORIGIN_FORBIDDEN"
		return core.WrapError(core.CodeForbidden, err, "a request from another origin is refused; add it to session.trusted_urls if it is yours")
	}
	return nil
}

// crossOriginProtection is rebuilt when the trusted origins change.
func (s *Server) crossOriginProtection() *http.CrossOriginProtection {
	cfg := s.o.Config()
	trusted := cfg.Session.TrustedURLs
	if cfg.Node.FrontendBaseURL != "" {
		trusted = append(slices.Clone(trusted), cfg.Node.FrontendBaseURL)
	}
	if have := s.origins.Load(); have != nil && slices.Equal(have.trusted, trusted) {
		return have.p
	}
	p := http.NewCrossOriginProtection()
	for _, u := range trusted {
		if err := p.AddTrustedOrigin(originOf(u)); err != nil {
			s.o.Logger.Warn("a trusted origin is not usable", "key", "session.trusted_urls", "value", u, "error", err)
		}
	}
	s.origins.Store(&originCheck{trusted: trusted, p: p})
	return p
}

// originOf cuts a URL down to scheme://host.
func originOf(u string) string {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(u), "://")
	if !ok {
		return u
	}
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host
}
