package web

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (s *Server) sessionRoutes() []route {
	return []route{
		{method: "POST", path: "/api/user/login", caller: callAnyone, limit: limitCritical, handler: s.logIn},
		{method: "GET", path: "/api/user/logout", caller: callVisitor, mutates: true, handler: s.logOut},
		{method: "POST", path: "/api/user/logout", caller: callVisitor, handler: s.logOut},
		{method: "POST", path: "/api/user/register", caller: callAnyone, limit: limitCritical, handler: s.register},
	}
}

// cookieName is New API's.
const cookieName = "session"

// cookieMAC signs a session id. The domain in front keeps SESSION_SECRET usable
// for other things.
func (s *Server) cookieMAC(id string) []byte {
	m := hmac.New(sha256.New, []byte(s.o.Config().Secrets.Session.Reveal()))
	m.Write([]byte("sluice session cookie 1\x00"))
	m.Write([]byte(id))
	return m.Sum(nil)
}

// cookieValue is the signed id. The signature lets a forged one be refused
// without asking the database.
func (s *Server) cookieValue(id string) string {
	return id + "." + base64.RawURLEncoding.EncodeToString(s.cookieMAC(id))
}

// sessionID is the id in the session cookie, if it is signed by us.
func (s *Server) sessionID(r *http.Request) (string, bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil || len(cookie.Value) > 256 {
		return "", false
	}
	id, sig, ok := strings.Cut(cookie.Value, ".")
	if !ok {
		return "", false
	}
	mac, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil || !hmac.Equal(mac, s.cookieMAC(id)) {
		return "", false
	}
	return id, true
}

func (s *Server) setCookie(c *call, value string, maxAge time.Duration) {
	seconds := int(maxAge / time.Second)
	if seconds <= 0 {
		seconds = -1
	}
	http.SetCookie(c.w, &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: s.o.Config().Session.CookieSecure || s.secure(c.r),
	})
}

// startSession makes a new session and its cookie. An id is never used twice, so
// that one planted before the login is worth nothing.
func (s *Server) startSession(c *call, u *core.User) error {
	var raw [32]byte
	rand.Read(raw[:]) // never fails
	now, age := s.o.Now(), s.o.Config().Session.MaxAge
	session := &core.Session{ID: hex.EncodeToString(raw[:]), UserID: u.ID, Epoch: u.SessionEpoch, CreatedAt: now, LastSeenAt: now,
		ExpiresAt: now.Add(age), IP: c.ip.String(), UserAgent: clip(c.r.UserAgent(), 255)}
	if err := s.o.Store.CreateSession(c.ctx(), session); err != nil {
		return err
	}
	if err := s.o.Store.TrimSessions(c.ctx(), u.ID, s.o.Config().Session.ActiveLimit); err != nil {
		s.o.Logger.Warn("old sessions not ended", "user_id", u.ID, "error", err)
	}
	s.setCookie(c, s.cookieValue(session.ID), age)
	return nil
}

// clip cuts a text to at most n bytes, at the border of a character.
func clip(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "")
}

type loginBody struct {
	Username string      `json:"username" validate:"required,max=255"`
	Password core.Secret `json:"password" validate:"required,max=512"`
}

// errLogin does not tell an unknown name from a wrong password.
func errLogin() *core.Error {
	return core.Errorf(core.CodeInvalidRequest, "username or password is wrong, or the account is disabled")
}

func (s *Server) logIn(c *call) error {
	var body loginBody
	if err := c.bind(&body); err != nil {
		return err
	}
	if !s.options().PasswordLoginEnabled {
		return core.Errorf(core.CodeInvalidRequest, "an administrator has switched password log-in off")
	}
	user, err := s.checkLogin(c, body)
	if err != nil {
		return err
	}
	if old, ok := s.sessionID(c.r); ok {
		if err := s.o.Store.DeleteSession(c.ctx(), old); err != nil && !core.IsCode(err, core.CodeNotFound) {
			return err
		}
	}
	if err := s.startSession(c, user); err != nil {
		return err
	}
	if err := s.o.Store.TouchUserLogin(c.ctx(), user.ID, s.o.Now()); err != nil {
		s.o.Logger.Warn("time of login not written", "user_id", user.ID, "error", err)
	}
	c.user = user
	return c.ok(map[string]any{"id": user.ID, "username": user.Username, "display_name": user.DisplayName, "role": user.Role, "status": user.Status, "group": user.Group})
}

// checkLogin finds the user that a name and a password belong to.
func (s *Server) checkLogin(c *call, body loginBody) (*core.User, error) {
	name := strings.TrimSpace(body.Username)
	user, err := s.o.Store.UserByLogin(c.ctx(), name)
	if err != nil && !core.IsCode(err, core.CodeNotFound) {
		return nil, err
	}
	found := err == nil
	account, stored := accountByName(name), core.Secret("")
	if found {
		account, stored = accountByID(user.ID), user.PasswordHash
	}
	ok, stale, err := s.login.verify(c, account, stored, body.Password)
	switch {
	case err != nil:
		return nil, err
	case !ok || !found || !user.Enabled():
		return nil, errLogin()
	}
	if stale {
		s.rehash(c, user, body.Password)
	}
	return user, nil
}

// rehash stores a password in today's form. It is no fault of the login when
// that does not work.
func (s *Server) rehash(c *call, user *core.User, password core.Secret) {
	var hash core.Secret
	var failed error
	err := s.login.hashes.run(c.ctx(), func() { hash, failed = HashPassword(c.ctx(), password) })
	if err == nil {
		err = failed
	}
	if err == nil {
		_, err = s.o.Store.Update(c.ctx(), core.Actor{UserID: user.ID, Username: user.Username, IP: c.ip.String(), RequestID: core.RequestID(c.ctx()), Route: "POST /api/user/login"},
			func(tx *store.Tx) error {
				u, err := tx.UserForUpdate(c.ctx(), user.ID)
				if err != nil || u.PasswordHash != user.PasswordHash {
					return err
				}
				u.PasswordHash = hash
				return tx.SaveUser(c.ctx(), u)
			})
	}
	if err != nil {
		s.o.Logger.Warn("password hash not renewed", "user_id", user.ID, "error", err)
	}
}

func (s *Server) logOut(c *call) error {
	if id, ok := s.sessionID(c.r); ok {
		if err := s.o.Store.DeleteSession(c.ctx(), id); err != nil && !core.IsCode(err, core.CodeNotFound) {
			return err
		}
	}
	s.setCookie(c, "", -time.Second)
	return c.done()
}

type registerBody struct {
	Username string      `json:"username" validate:"required,max=20"`
	Password core.Secret `json:"password" validate:"required"`
}

// register makes an ordinary account. An e-mail address is not taken: without a
// proof of it, one could claim another's.
func (s *Server) register(c *call) error {
	var body registerBody
	if err := c.bind(&body); err != nil {
		return err
	}
	o := s.options()
	if !o.RegisterEnabled || !o.PasswordRegisterEnabled {
		return core.Errorf(core.CodeInvalidRequest, "an administrator has switched registration off")
	}
	if err := checkUsername(body.Username); err != nil {
		return err
	}
	hash, err := s.login.hashes.hash(c.ctx(), body.Password)
	if err != nil {
		return err
	}
	user := s.newUser(body.Username, hash)
	user.Quota = o.QuotaForNewUser
	if err := c.update(func(ctx context.Context, tx *store.Tx) error { return tx.CreateUser(ctx, user) }); err != nil {
		return err
	}
	return c.done()
}

// newUser is an enabled ordinary account.
func (s *Server) newUser(name string, hash core.Secret) *core.User {
	return &core.User{Username: name, DisplayName: name, PasswordHash: hash, Role: core.RoleUser, Status: core.UserEnabled, Group: defaultGroup, CreatedAt: s.o.Now()}
}

// defaultGroup is the group of new users.
const defaultGroup = "default"
