package web

import (
	"context"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (s *Server) userRoutes() []route {
	return []route{
		{method: "GET", path: "/api/user/", caller: callAdmin, handler: s.listUsers},
		{method: "GET", path: "/api/user/search", caller: callAdmin, limit: limitSearch, handler: s.searchUsers},
		{method: "GET", path: "/api/user/:id", caller: callAdmin, handler: s.getUser},
		{method: "POST", path: "/api/user/", caller: callAdmin, handler: s.createUser},
		{method: "PUT", path: "/api/user/", caller: callAdmin, handler: s.updateUser},
		{method: "POST", path: "/api/user/manage", caller: callAdmin, handler: s.manageUser},
		{method: "DELETE", path: "/api/user/:id", caller: callAdmin, handler: s.deleteUser},
	}
}

// userView is New API's user. What belongs to log-ins that are not offered is
// always empty.
type userView struct {
	ID           int64  `json:"id"`
	Username     string `json:"username"`
	DisplayName  string `json:"display_name"`
	Role         int    `json:"role"`
	Status       int    `json:"status"`
	Email        string `json:"email"`
	GitHubID     string `json:"github_id"`
	DiscordID    string `json:"discord_id"`
	OIDCID       string `json:"oidc_id"`
	WeChatID     string `json:"wechat_id"`
	TelegramID   string `json:"telegram_id"`
	LinuxDOID    string `json:"linux_do_id"`
	Group        string `json:"group"`
	Quota        int64  `json:"quota"`
	UsedQuota    int64  `json:"used_quota"`
	RequestCount int64  `json:"request_count"`
	AffCode      string `json:"aff_code"`
	AffCount     int64  `json:"aff_count"`
	AffQuota     int64  `json:"aff_quota"`
	AffHistory   int64  `json:"aff_history_quota"`
	InviterID    int64  `json:"inviter_id"`
	Setting      string `json:"setting"`
	StripeID     string `json:"stripe_customer"`
	CreatedAt    int64  `json:"created_at"`
	LastLoginAt  int64  `json:"last_login_at"`
	Remark       string `json:"remark,omitempty"`
}

// viewUser leaves the remark out: it is the administrators'.
func viewUser(u *core.User) userView {
	return userView{ID: u.ID, Username: u.Username, DisplayName: u.DisplayName, Role: int(u.Role), Status: int(u.Status), Email: u.Email, Group: u.Group,
		Quota: u.Quota, UsedQuota: u.UsedQuota, RequestCount: u.RequestCount, Setting: u.Setting,
		CreatedAt: unixSeconds(u.CreatedAt, 0), LastLoginAt: unixSeconds(u.LastLoginAt, 0)}
}

// viewUserForAdmin leaves the settings out: they may hold a webhook's secret.
func viewUserForAdmin(u *core.User) userView {
	v := viewUser(u)
	v.Setting, v.Remark = "", u.Remark
	return v
}

func (s *Server) listUsers(c *call) error { return s.replyUsers(c, store.UserFilter{}) }

func (s *Server) searchUsers(c *call) error {
	f := store.UserFilter{Keyword: clip(c.query("keyword"), 64), Group: clip(c.query("group"), 64)}
	role, err := c.queryInt("role", 0)
	if err != nil {
		return err
	}
	status, err := c.queryInt("status", 0)
	if err != nil {
		return err
	}
	f.Role, f.Status = core.Role(role), core.UserStatus(status)
	return s.replyUsers(c, f)
}

func (s *Server) replyUsers(c *call, f store.UserFilter) error {
	q := c.pageQuery()
	page, err := s.o.Store.Users(c.ctx(), q, f)
	if err != nil {
		return err
	}
	return replyPage(c, q, page, viewUserForAdmin)
}

// mayManage is the one rule of who acts on whom: on lower roles only, and root
// on everybody.
func (c *call) mayManage(role core.Role) error {
	if c.user.Role >= core.RoleRoot || c.user.Role > role {
		return nil
	}
	return core.Errorf(core.CodeForbidden, "you may act only on users of a lower role than your own")
}

func (s *Server) getUser(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	u, err := s.o.Store.User(c.ctx(), id)
	if err != nil {
		return err
	}
	if err := c.mayManage(u.Role); err != nil {
		return err
	}
	return c.ok(viewUserForAdmin(u))
}

// checkUsername refuses names that could be taken for another's: an address
// logs in as well, and blanks or control characters are not seen.
func checkUsername(name string) error {
	switch {
	case name == "" || name != strings.TrimSpace(name):
		return invalidField("username", "must not be empty, nor begin or end with a blank")
	case strings.ContainsRune(name, '@'):
		return invalidField("username", "must not contain @")
	case strings.ContainsFunc(name, unseen):
		return invalidField("username", "must have printable characters only")
	}
	return nil
}

// unseen reports whether a character leaves nothing to see, or something that
// stands for what it could not be.
func unseen(r rune) bool {
	const brailleBlank = '\u2800'
	return !unicode.IsPrint(r) || r == utf8.RuneError || r == brailleBlank ||
		unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// checkEmail refuses what is no address: it logs in, and must not look like a
// name. Whether it is its owner's is not known.
func checkEmail(text string) error {
	if text == "" {
		return nil
	}
	if a, err := mail.ParseAddress(text); err != nil || a.Address != text {
		return invalidField("email", "must be an e-mail address")
	}
	return nil
}

type createUserBody struct {
	Username    string      `json:"username" validate:"required,max=20"`
	Password    core.Secret `json:"password" validate:"required"`
	DisplayName string      `json:"display_name" validate:"max=20"`
	Role        core.Role   `json:"role"`
	Group       string      `json:"group" validate:"max=64"`
	Remark      string      `json:"remark" validate:"max=255"`
}

func (s *Server) createUser(c *call) error {
	var body createUserBody
	if err := c.bind(&body); err != nil {
		return err
	}
	if err := checkUsername(body.Username); err != nil {
		return err
	}
	if body.Role == core.RoleGuest {
		body.Role = core.RoleUser
	}
	switch {
	case !body.Role.Valid() || body.Role >= core.RoleRoot:
		return invalidField("role", "must be 1 (user) or 10 (administrator)")
	case body.Role >= c.user.Role:
		return core.Errorf(core.CodeForbidden, "you may create only users of a lower role than your own")
	}
	hash, err := s.login.hashes.hash(c.ctx(), body.Password)
	if err != nil {
		return err
	}
	u := s.newUser(body.Username, hash)
	u.Role, u.Remark, u.Quota = body.Role, body.Remark, s.options().QuotaForNewUser
	if body.DisplayName != "" {
		u.DisplayName = body.DisplayName
	}
	if body.Group != "" {
		u.Group = body.Group
	}
	if err := c.update(func(ctx context.Context, tx *store.Tx) error { return tx.CreateUser(ctx, u) }); err != nil {
		return err
	}
	return c.ok(viewUserForAdmin(u))
}

type updateUserBody struct {
	ID          int64       `json:"id" validate:"gt=0"`
	Username    *string     `json:"username" validate:"omitempty,max=20"`
	DisplayName *string     `json:"display_name" validate:"omitempty,max=20"`
	Password    core.Secret `json:"password" validate:"omitempty,max=512"`
	Email       *string     `json:"email" validate:"omitempty,max=255"`
	Group       *string     `json:"group" validate:"omitempty,max=64"`
	Quota       *int64      `json:"quota" validate:"omitempty,gte=0"`
	Remark      *string     `json:"remark" validate:"omitempty,max=255"`
}

// updateUser changes what the body names. A role changes by manage only.
func (s *Server) updateUser(c *call) error {
	var body updateUserBody
	if err := c.bind(&body); err != nil {
		return err
	}
	if body.Quota != nil && *body.Quota > core.MaxQuota {
		return invalidField("quota", fmt.Sprintf("must be at most %d", int64(core.MaxQuota)))
	}
	if body.Email != nil {
		if err := checkEmail(*body.Email); err != nil {
			return err
		}
	}
	var hash core.Secret
	if body.Password != "" {
		if body.ID == c.user.ID { // a session left open, or an access token, is not enough to take an account
			return invalidField("password", "change your own with PUT /api/user/self, which asks for the one in use")
		}
		var err error
		if hash, err = s.login.hashes.hash(c.ctx(), body.Password); err != nil {
			return err
		}
	}
	var was *core.User
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		u, err := s.lockManaged(ctx, c, tx, body.ID)
		if err != nil {
			return err
		}
		old := *u
		was = &old
		if err := body.apply(u, hash); err != nil {
			return err
		}
		if err := tx.SaveUser(ctx, u); err != nil {
			return err
		}
		if body.Quota != nil && *body.Quota != old.Quota {
			if was.Quota, err = tx.SetQuota(ctx, u.ID, *body.Quota); err != nil {
				return err
			}
		}
		if hash != "" {
			return tx.RevokeSessions(ctx, u.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if body.Quota != nil && *body.Quota != was.Quota {
		s.logManage(c, was, fmt.Sprintf("%s set the balance from %d to %d", c.user.Username, was.Quota, *body.Quota))
	}
	return c.done()
}

func (b *updateUserBody) apply(u *core.User, hash core.Secret) error {
	if b.Username != nil && *b.Username != "" && *b.Username != u.Username {
		if err := checkUsername(*b.Username); err != nil {
			return err
		}
		u.Username = *b.Username
	}
	if b.DisplayName != nil {
		u.DisplayName = *b.DisplayName
	}
	if b.Email != nil {
		u.Email = *b.Email
	}
	if b.Group != nil && *b.Group != "" {
		u.Group = *b.Group
	}
	if b.Remark != nil {
		u.Remark = *b.Remark
	}
	if hash != "" {
		u.PasswordHash = hash
	}
	return nil
}

// lockManaged reads a user for writing and checks the caller's right to it
// under the lock: a role that changes at the same time does not slip through.
func (s *Server) lockManaged(ctx context.Context, c *call, tx *store.Tx, id int64) (*core.User, error) {
	u, err := tx.UserForUpdate(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := c.mayManage(u.Role); err != nil {
		return nil, err
	}
	return u, nil
}

func (s *Server) deleteUser(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	if err := c.update(func(ctx context.Context, tx *store.Tx) error { return s.removeUser(ctx, c, tx, id) }); err != nil {
		return err
	}
	return c.done()
}

func (s *Server) removeUser(ctx context.Context, c *call, tx *store.Tx, id int64) error {
	u, err := s.lockManaged(ctx, c, tx, id)
	if err != nil {
		return err
	}
	if u.Role >= core.RoleRoot {
		return core.Errorf(core.CodeInvalidRequest, "the root account cannot be deleted")
	}
	return tx.DeleteUser(ctx, id)
}

type userAction struct {
	ID       int64  `json:"id"`
	Username string `json:"username" validate:"max=255"`
	Action   string `json:"action" validate:"required,oneof=enable disable delete promote demote add_quota"`
	Mode     string `json:"mode" validate:"omitempty,oneof=add subtract override"`
	Value    int64  `json:"value"`
}

// manageUser is the one place where status, role and balance change by hand.
func (s *Server) manageUser(c *call) error {
	var body userAction
	if err := c.bind(&body); err != nil {
		return err
	}
	if body.ID <= 0 {
		if body.Username == "" {
			return invalidField("id", "is required")
		}
		u, err := s.o.Store.UserByLogin(c.ctx(), body.Username)
		if err != nil {
			return err
		}
		body.ID = u.ID
	}
	if body.Action == "add_quota" {
		return s.manageQuota(c, body)
	}
	var u *core.User
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		if body.Action == "delete" {
			u = nil
			return s.removeUser(ctx, c, tx, body.ID)
		}
		var err error
		if u, err = s.lockManaged(ctx, c, tx, body.ID); err != nil {
			return err
		}
		if err := applyAction(u, body.Action, c.user.Role); err != nil {
			return err
		}
		if err := tx.SaveUser(ctx, u); err != nil {
			return err
		}
		if body.Action == "disable" {
			return tx.RevokeSessions(ctx, u.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if u == nil {
		return c.done()
	}
	return c.ok(map[string]any{"role": u.Role, "status": u.Status})
}

// applyAction changes status or role. There is one root, and it stays one.
func applyAction(u *core.User, action string, by core.Role) error {
	if u.Role >= core.RoleRoot {
		return core.Errorf(core.CodeInvalidRequest, "the root account cannot be changed this way")
	}
	switch action {
	case "enable":
		u.Status = core.UserEnabled
	case "disable":
		u.Status = core.UserDisabled
	case "promote":
		if by < core.RoleRoot {
			return core.Errorf(core.CodeForbidden, "only root may make administrators")
		}
		if u.Role >= core.RoleAdmin {
			return core.Errorf(core.CodeConflict, "the user is an administrator already")
		}
		u.Role = core.RoleAdmin
	case "demote":
		if u.Role <= core.RoleUser {
			return core.Errorf(core.CodeConflict, "the user is an ordinary user already")
		}
		u.Role = core.RoleUser
	}
	return nil
}

// manageQuota changes a balance and says so in the usage log.
func (s *Server) manageQuota(c *call, body userAction) error {
	if body.Mode == "" {
		body.Mode = "add"
	}
	if body.Value < 0 || body.Value > core.MaxQuota || body.Value == 0 && body.Mode != "override" {
		return invalidField("value", fmt.Sprintf("must be a whole number from 1 to %d", int64(core.MaxQuota)))
	}
	var u *core.User
	var text string
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		var err error
		if u, err = s.lockManaged(ctx, c, tx, body.ID); err != nil {
			return err
		}
		switch body.Mode {
		case "add":
			text = fmt.Sprintf("%s added %d to the balance", c.user.Username, body.Value)
			return tx.AddQuota(ctx, body.ID, body.Value)
		case "subtract":
			text = fmt.Sprintf("%s took %d from the balance", c.user.Username, body.Value)
			return tx.AddQuota(ctx, body.ID, -body.Value)
		}
		old, err := tx.SetQuota(ctx, body.ID, body.Value)
		text = fmt.Sprintf("%s set the balance from %d to %d", c.user.Username, old, body.Value)
		return err
	})
	if err != nil {
		return err
	}
	s.logManage(c, u, text)
	return c.done()
}

// logManage writes the row that the user sees. The audit log has it already, so
// a log database that is away does not undo the change.
func (s *Server) logManage(c *call, u *core.User, text string) {
	row := core.UsageLog{At: s.o.Now(), Type: core.LogManage, UserID: u.ID, Username: u.Username, Content: text, RequestID: core.RequestID(c.ctx())}
	if err := s.o.Store.InsertLogs(c.ctx(), []core.UsageLog{row}); err != nil {
		s.o.Logger.Warn("log row of a changed balance not written", "user_id", u.ID, "error", err)
	}
}
