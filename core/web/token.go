package web

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

// Every query of this file names the caller as owner: a token of another user
// is not found, whatever the caller's role.
func (s *Server) tokenRoutes() []route {
	return []route{
		{method: "GET", path: "/api/token/", caller: callUser, handler: s.listTokens},
		{method: "GET", path: "/api/token/search", caller: callUser, limit: limitSearch, handler: s.searchTokens},
		{method: "GET", path: "/api/token/:id", caller: callUser, handler: s.getToken},
		{method: "POST", path: "/api/token/:id/key", caller: callUser, limit: limitCritical, handler: s.revealToken},
		{method: "POST", path: "/api/token/batch/keys", caller: callUser, limit: limitCritical, handler: s.revealTokens},
		{method: "POST", path: "/api/token/", caller: callUser, handler: s.createToken},
		{method: "PUT", path: "/api/token/", caller: callUser, handler: s.updateToken},
		{method: "DELETE", path: "/api/token/:id", caller: callUser, handler: s.deleteToken},
		{method: "POST", path: "/api/token/batch", caller: callUser, handler: s.deleteTokens},
	}
}

// tokenView is New API's token. Key is masked but where it is asked for.
type tokenView struct {
	ID              int64   `json:"id"`
	UserID          int64   `json:"user_id"`
	Key             string  `json:"key"`
	Status          int     `json:"status"`
	Name            string  `json:"name"`
	CreatedTime     int64   `json:"created_time"`
	AccessedTime    int64   `json:"accessed_time"`
	ExpiredTime     int64   `json:"expired_time"`
	RemainQuota     int64   `json:"remain_quota"`
	UnlimitedQuota  bool    `json:"unlimited_quota"`
	LimitModels     bool    `json:"model_limits_enabled"`
	Models          string  `json:"model_limits"`
	AllowIPs        string  `json:"allow_ips"`
	UsedQuota       int64   `json:"used_quota"`
	Group           string  `json:"group"`
	CrossGroupRetry bool    `json:"cross_group_retry"`
	DeletedAt       *string `json:"DeletedAt"` // always null: tokens are deleted for good
}

func (s *Server) viewToken(t *core.Token) tokenView {
	return tokenView{ID: t.ID, UserID: t.UserID, Key: t.KeyPreview, Status: int(t.ShownStatus(s.o.Now())), Name: t.Name,
		CreatedTime: unixSeconds(t.CreatedAt, 0), AccessedTime: unixSeconds(t.AccessedAt, 0), ExpiredTime: unixSeconds(t.ExpiresAt, -1),
		RemainQuota: t.RemainQuota, UnlimitedQuota: t.UnlimitedQuota, LimitModels: t.LimitModels, Models: strings.Join(t.Models, ","),
		AllowIPs: core.FormatAllowIPs(t.AllowIPs), UsedQuota: t.UsedQuota, Group: t.Group, CrossGroupRetry: t.CrossGroupRetry}
}

func (s *Server) listTokens(c *call) error { return s.replyTokens(c, store.TokenFilter{}) }

func (s *Server) searchTokens(c *call) error {
	return s.replyTokens(c, store.TokenFilter{Keyword: clip(c.query("keyword"), 64), KeyPart: clip(c.query("token"), 191)})
}

func (s *Server) replyTokens(c *call, f store.TokenFilter) error {
	q := c.pageQuery()
	page, err := s.o.Store.Tokens(c.ctx(), c.user.ID, q, f)
	if err != nil {
		return err
	}
	return replyPage(c, q, page, s.viewToken)
}

func (s *Server) getToken(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	t, err := s.o.Store.Token(c.ctx(), c.user.ID, id)
	if err != nil {
		return err
	}
	return c.ok(s.viewToken(t))
}

// revealToken shows a key once more to its owner.
func (s *Server) revealToken(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	key, err := s.o.Store.RevealTokenKey(c.ctx(), c.user.ID, id)
	if err != nil {
		return err
	}
	return c.ok(map[string]string{"key": key.Reveal()})
}

type idsBody struct {
	IDs []int64 `json:"ids" validate:"required,min=1,max=100,dive,gt=0"`
}

// revealTokens answers key by id; ids that are not the caller's are left out.
func (s *Server) revealTokens(c *call) error {
	var body idsBody
	if err := c.bind(&body); err != nil {
		return err
	}
	out := make(map[string]string, len(body.IDs))
	for _, id := range body.IDs {
		key, err := s.o.Store.RevealTokenKey(c.ctx(), c.user.ID, id)
		if core.IsCode(err, core.CodeNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		out[strconv.FormatInt(id, 10)] = key.Reveal()
	}
	return c.ok(out)
}

// tokenBody is what a client may set. A nil field keeps what is there; for a new
// token it is the zero value.
type tokenBody struct {
	ID              int64   `json:"id" validate:"gte=0"`
	Status          *int    `json:"status" validate:"omitempty,oneof=1 2 3 4"`
	Name            *string `json:"name" validate:"omitempty,max=50"`
	ExpiredTime     *int64  `json:"expired_time" validate:"omitempty,gte=-1,lte=253402300799"`
	RemainQuota     *int64  `json:"remain_quota" validate:"omitempty,gte=0"`
	UnlimitedQuota  *bool   `json:"unlimited_quota"`
	LimitModels     *bool   `json:"model_limits_enabled"`
	Models          *string `json:"model_limits" validate:"omitempty,max=65535"`
	AllowIPs        *string `json:"allow_ips" validate:"omitempty,max=16384"`
	Group           *string `json:"group" validate:"omitempty,max=64"`
	CrossGroupRetry *bool   `json:"cross_group_retry"`
}

// apply puts the body into a token. The balance is not part of it: it is the
// ledger's.
func (b *tokenBody) apply(t *core.Token, snap *core.Snapshot, userGroup string) error {
	if b.Name != nil {
		t.Name = *b.Name
	}
	if b.ExpiredTime != nil {
		t.ExpiresAt = time.Time{}
		if *b.ExpiredTime > 0 {
			t.ExpiresAt = time.Unix(*b.ExpiredTime, 0)
		}
	}
	setBool(&t.UnlimitedQuota, b.UnlimitedQuota)
	setBool(&t.LimitModels, b.LimitModels)
	setBool(&t.CrossGroupRetry, b.CrossGroupRetry)
	if b.Models != nil {
		t.Models = splitNames(*b.Models)
	}
	if b.AllowIPs != nil {
		list, err := core.ParseAllowIPs(*b.AllowIPs)
		if err != nil {
			return invalidField("allow_ips", err.Error())
		}
		t.AllowIPs = list
	}
	if b.Group != nil && *b.Group != t.Group {
		if g := *b.Group; g != "" && g != core.GroupAuto && !snap.GroupUsable(userGroup, g) {
			return invalidField("group", fmt.Sprintf("you may not use the group %q", g))
		}
		t.Group = *b.Group
	}
	return nil
}

func setBool(to, from *bool) {
	if from != nil {
		*to = *from
	}
}

// splitNames reads a comma list without blanks, empty and repeated names.
func splitNames(text string) []string {
	var out []string
	for _, name := range strings.Split(text, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// checkQuota bounds what may be given to a token.
func (b *tokenBody) checkQuota() error {
	if b.RemainQuota != nil && *b.RemainQuota > core.MaxQuota {
		return invalidField("remain_quota", fmt.Sprintf("must be at most %d", int64(core.MaxQuota)))
	}
	return nil
}

// createToken makes a token and answers it with its key, which New API does not:
// a client need not list all tokens to find the one that it made.
func (s *Server) createToken(c *call) error {
	var body tokenBody
	if err := c.bind(&body); err != nil {
		return err
	}
	if body.Name == nil || strings.TrimSpace(*body.Name) == "" {
		return invalidField("name", "is required")
	}
	if err := body.checkQuota(); err != nil {
		return err
	}
	snap := s.snapshot()
	t := &core.Token{UserID: c.user.ID, Status: core.TokenEnabled, CreatedAt: s.o.Now()}
	if err := body.apply(t, snap, c.user.Group); err != nil {
		return err
	}
	if body.RemainQuota != nil {
		t.RemainQuota = *body.RemainQuota
	}
	if !t.ExpiresAt.IsZero() && t.Expired(s.o.Now()) {
		return invalidField("expired_time", "lies in the past; -1 means never")
	}
	key := store.NewTokenKey()
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		n, err := tx.CountTokens(ctx, c.user.ID)
		if err != nil {
			return err
		}
		if most := snap.Options.MaxUserTokens; n >= most {
			return core.Errorf(core.CodeConflict, "you have %d tokens; the most is %d (option token_setting.max_user_tokens)", n, most)
		}
		return tx.CreateToken(ctx, t, key)
	})
	if err != nil {
		return err
	}
	v := s.viewToken(t)
	v.Key = key.Reveal()
	return c.ok(v)
}

// updateToken changes a token, or with ?status_only=true nothing but its status.
func (s *Server) updateToken(c *call) error {
	var body tokenBody
	if err := c.bind(&body); err != nil {
		return err
	}
	if body.ID <= 0 {
		return invalidField("id", "is required")
	}
	if err := body.checkQuota(); err != nil {
		return err
	}
	statusOnly := c.query("status_only") != ""
	if statusOnly && body.Status == nil {
		return invalidField("status", "is required")
	}
	snap := s.snapshot()
	var saved *core.Token
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		t, err := tx.TokenForUpdate(ctx, c.user.ID, body.ID)
		if err != nil {
			return err
		}
		saved = t
		if statusOnly {
			if err := s.setTokenStatus(t, *body.Status); err != nil {
				return err
			}
			return tx.SaveToken(ctx, t)
		}
		if err := body.apply(t, snap, c.user.Group); err != nil {
			return err
		}
		if body.RemainQuota != nil {
			t.RemainQuota = *body.RemainQuota
		}
		// A console sends back the status that it was shown: expired and
		// exhausted follow from the rest and are not stored.
		if body.Status != nil && *body.Status <= int(core.TokenDisabled) {
			t.Status = core.TokenStatus(*body.Status)
		}
		if err := tx.SaveToken(ctx, t); err != nil {
			return err
		}
		if body.RemainQuota != nil {
			return tx.SetTokenQuota(ctx, t.ID, t.RemainQuota)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.ok(s.viewToken(saved))
}

// setTokenStatus refuses to enable what would not work.
func (s *Server) setTokenStatus(t *core.Token, status int) error {
	switch core.TokenStatus(status) {
	case core.TokenDisabled:
		t.Status = core.TokenDisabled
		return nil
	case core.TokenEnabled:
		t.Status = core.TokenEnabled
	default:
		return invalidField("status", "must be 1 (enabled) or 2 (disabled)")
	}
	switch t.ShownStatus(s.o.Now()) {
	case core.TokenExpired:
		return core.Errorf(core.CodeConflict, "the token has expired; change its time of expiry first")
	case core.TokenExhausted:
		return core.Errorf(core.CodeConflict, "the token's quota is used up; give it more, or make it unlimited, first")
	}
	return nil
}

func (s *Server) deleteToken(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	if err := c.update(func(ctx context.Context, tx *store.Tx) error { return tx.DeleteToken(ctx, c.user.ID, id) }); err != nil {
		return err
	}
	return c.done()
}

// deleteTokens answers how many there were; ids that are not the caller's do not
// count.
func (s *Server) deleteTokens(c *call) error {
	var body idsBody
	if err := c.bind(&body); err != nil {
		return err
	}
	slices.Sort(body.IDs)
	ids := slices.Compact(body.IDs)
	var n int
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		n = 0
		for _, id := range ids {
			err := tx.DeleteToken(ctx, c.user.ID, id)
			if core.IsCode(err, core.CodeNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.ok(n)
}
