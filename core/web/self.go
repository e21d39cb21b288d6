package web

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (s *Server) selfRoutes() []route {
	return []route{
		{method: "GET", path: "/api/user/self", caller: callUser, handler: s.getSelf},
		{method: "PUT", path: "/api/user/self", caller: callUser, handler: s.putSelf},
		{method: "DELETE", path: "/api/user/self", caller: callUser, handler: s.deleteSelf},
		{method: "PUT", path: "/api/user/setting", caller: callUser, handler: s.putSetting},
		{method: "GET", path: "/api/user/token", caller: callUser, limit: limitCritical, mutates: true, handler: s.newAccessToken},
		{method: "GET", path: "/api/user/models", caller: callUser, handler: s.userModels},
		{method: "GET", path: "/api/user/self/groups", caller: callUser, handler: s.usableGroups},
		{method: "GET", path: "/api/user/groups", caller: callVisitor, handler: s.usableGroups},
	}
}

// selfView is New API's user with what the console needs to lay itself out.
type selfView struct {
	userView
	SidebarModules string         `json:"sidebar_modules"`
	Permissions    map[string]any `json:"permissions"`
}

func (s *Server) getSelf(c *call) error {
	v := selfView{userView: viewUser(c.user), Permissions: permissions(c.user.Role)}
	v.SidebarModules, _ = settingOf(c.user)["sidebar_modules"].(string)
	return c.ok(v)
}

// permissions are New API's, by role.
func permissions(role core.Role) map[string]any {
	switch {
	case role >= core.RoleRoot:
		return map[string]any{"sidebar_settings": false, "sidebar_modules": map[string]any{}}
	case role >= core.RoleAdmin:
		return map[string]any{"sidebar_settings": true, "sidebar_modules": map[string]any{"admin": map[string]any{"setting": false}}}
	}
	return map[string]any{"sidebar_settings": true, "sidebar_modules": map[string]any{"admin": false}}
}

// settingOf reads the user's own settings; a text that is no object is none.
func settingOf(u *core.User) map[string]any {
	m := map[string]any{}
	d := json.NewDecoder(strings.NewReader(u.Setting))
	d.UseNumber()
	if d.Decode(&m) != nil || m == nil {
		return map[string]any{}
	}
	return m
}

type selfBody struct {
	Username         *string     `json:"username" validate:"omitempty,max=20"`
	DisplayName      *string     `json:"display_name" validate:"omitempty,max=20"`
	Password         core.Secret `json:"password" validate:"omitempty,max=512"`
	OriginalPassword core.Secret `json:"original_password" validate:"omitempty,max=512"`
	SidebarModules   *string     `json:"sidebar_modules" validate:"omitempty,max=16384"`
	Language         *string     `json:"language" validate:"omitempty,max=16"`
}

// putSelf changes the caller's names, password, or two of the settings.
func (s *Server) putSelf(c *call) error {
	var body selfBody
	if err := c.bind(&body); err != nil {
		return err
	}
	if body.Username != nil && *body.Username != "" && *body.Username != c.user.Username {
		if err := checkUsername(*body.Username); err != nil {
			return err
		}
	}
	hash, err := s.newOwnPassword(c, body)
	if err != nil {
		return err
	}
	var saved *core.User
	err = c.update(func(ctx context.Context, tx *store.Tx) error {
		u, err := tx.UserForUpdate(ctx, c.user.ID)
		if err != nil {
			return err
		}
		if body.Username != nil && *body.Username != "" {
			u.Username = *body.Username
		}
		if body.DisplayName != nil {
			u.DisplayName = *body.DisplayName
		}
		if u.Setting, err = mergeSetting(u, map[string]*string{"sidebar_modules": body.SidebarModules, "language": body.Language}); err != nil {
			return err
		}
		if hash != "" {
			u.PasswordHash = hash
		}
		if err := tx.SaveUser(ctx, u); err != nil {
			return err
		}
		if hash != "" {
			if err := tx.RevokeSessions(ctx, u.ID); err != nil {
				return err
			}
			u, err = tx.UserForUpdate(ctx, c.user.ID) // its epoch was raised
		}
		saved = u
		return err
	})
	if err != nil {
		return err
	}
	if hash != "" && c.session != nil {
		if err := s.startSession(c, saved); err != nil {
			return err
		}
	}
	return c.done()
}

// newOwnPassword hashes a password that the caller gives itself; the one in use
// must be shown, so that a session left open is not enough to take an account.
func (s *Server) newOwnPassword(c *call, body selfBody) (core.Secret, error) {
	if body.Password == "" {
		return "", nil
	}
	if err := CheckPassword(body.Password); err != nil {
		return "", err
	}
	u, err := s.o.Store.User(c.ctx(), c.user.ID) // a session's user comes without the hash
	if err != nil {
		return "", err
	}
	if u.PasswordHash != "" {
		if body.OriginalPassword == "" {
			return "", invalidField("original_password", "is required to set a new password")
		}
		ok, _, err := s.login.verify(c, accountByID(u.ID), u.PasswordHash, body.OriginalPassword)
		if err != nil {
			return "", err
		}
		if !ok {
			return "", invalidField("original_password", "is wrong")
		}
	}
	return s.login.hashes.hash(c.ctx(), body.Password)
}

func (s *Server) deleteSelf(c *call) error {
	if c.user.Role >= core.RoleRoot {
		return core.Errorf(core.CodeInvalidRequest, "the root account cannot be deleted")
	}
	if err := c.update(func(ctx context.Context, tx *store.Tx) error { return tx.DeleteUser(ctx, c.user.ID) }); err != nil {
		return err
	}
	s.setCookie(c, "", -1)
	return c.done()
}

// mergeSetting puts texts into the user's settings; nil leaves one as it is.
func mergeSetting(u *core.User, texts map[string]*string) (string, error) {
	if !slices.ContainsFunc(values(texts), func(t *string) bool { return t != nil }) {
		return u.Setting, nil
	}
	m := settingOf(u)
	for key, text := range texts {
		if text != nil {
			m[key] = *text
		}
	}
	return encodeSetting(m)
}

func values[K comparable, V any](m map[K]V) []V {
	out := make([]V, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// settingMax is the most that a user may keep.
const settingMax = 64 << 10

func encodeSetting(m map[string]any) (string, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return "", core.WrapError(core.CodeInternal, err, "internal error")
	}
	if len(b) > settingMax {
		return "", core.Errorf(core.CodeInvalidRequest, "setting: is longer than %d bytes", settingMax)
	}
	return string(b), nil
}

// settingBody holds the settings that New API's console writes as a whole.
type settingBody struct {
	NotifyType        *string  `json:"notify_type,omitempty" validate:"omitempty,oneof=email webhook bark gotify"`
	WarningThreshold  *float64 `json:"quota_warning_threshold,omitempty" validate:"omitempty,gt=0,lte=1e15"`
	WebhookURL        *string  `json:"webhook_url,omitempty" validate:"omitempty,max=1024"`
	WebhookSecret     *string  `json:"webhook_secret,omitempty" validate:"omitempty,max=255"`
	NotificationEmail *string  `json:"notification_email,omitempty" validate:"omitempty,max=255"`
	BarkURL           *string  `json:"bark_url,omitempty" validate:"omitempty,max=1024"`
	GotifyURL         *string  `json:"gotify_url,omitempty" validate:"omitempty,max=1024"`
	GotifyToken       *string  `json:"gotify_token,omitempty" validate:"omitempty,max=255"`
	GotifyPriority    *int     `json:"gotify_priority,omitempty" validate:"omitempty,gte=0,lte=10"`
	AcceptUnsetRatio  *bool    `json:"accept_unset_model_ratio_model,omitempty"`
	RecordIPLog       *bool    `json:"record_ip_log,omitempty"`
}

// putSetting replaces what the body names and keeps the rest.
func (s *Server) putSetting(c *call) error {
	var body settingBody
	if err := c.bind(&body); err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return core.WrapError(core.CodeInternal, err, "internal error")
	}
	return s.saveThen(c, c.user.ID, func(u *core.User) error {
		m := settingOf(u)
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.UseNumber()
		if err := d.Decode(&m); err != nil {
			return core.WrapError(core.CodeInternal, err, "internal error")
		}
		u.Setting, err = encodeSetting(m)
		return err
	})
}

// saveThen changes one user in a transaction and answers success.
func (s *Server) saveThen(c *call, id int64, change func(u *core.User) error) error {
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		u, err := tx.UserForUpdate(ctx, id)
		if err != nil {
			return err
		}
		if err := change(u); err != nil {
			return err
		}
		return tx.SaveUser(ctx, u)
	})
	if err != nil {
		return err
	}
	return c.done()
}

// newAccessToken replaces the caller's access token. Only its hash is kept, so
// this reply is the one place where it is seen.
func (s *Server) newAccessToken(c *call) error {
	token := rand.Text() + rand.Text()[:6] // 32 characters of base32: 160 bits
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.SetUserAccessToken(ctx, c.user.ID, s.o.Keys.AccessTokenHash(core.Secret(token)))
	})
	if err != nil {
		return err
	}
	return c.ok(token)
}

// userModels lists the models that the caller can reach, in one group or in all.
func (s *Server) userModels(c *call) error {
	snap := s.snapshot()
	var groups []string
	switch group := c.query("group"); {
	case group == core.GroupAuto:
		for _, g := range snap.Options.AutoGroups {
			if snap.GroupUsable(c.user.Group, g) {
				groups = append(groups, g)
			}
		}
	case group != "":
		if snap.GroupUsable(c.user.Group, group) {
			groups = []string{group}
		}
	default:
		for g := range snap.UsableGroups(c.user.Group) {
			groups = append(groups, g)
		}
	}
	models := []string{}
	for _, g := range groups {
		models = append(models, snap.Models(g)...)
	}
	slices.Sort(models)
	return c.ok(slices.Compact(models))
}

// usableGroups tells which groups a token of the caller may name, and their price.
func (s *Server) usableGroups(c *call) error {
	snap, own := s.snapshot(), ""
	if c.user != nil {
		own = c.user.Group
	}
	type view struct {
		Ratio any    `json:"ratio"`
		Desc  string `json:"desc"`
	}
	out := map[string]view{}
	for name, desc := range snap.UsableGroups(own) {
		if name == core.GroupAuto {
			out[name] = view{Ratio: "auto", Desc: desc}
			continue
		}
		ratio, _ := snap.GroupRatio(own, name)
		out[name] = view{Ratio: ratio, Desc: desc}
	}
	return c.ok(out)
}
