package web

import (
	"encoding/json"
	"math/big"
	"net/http"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

func (s *Server) usageRoutes() []route {
	billing := func(path string, h func(c *call) error) route {
		return route{method: "GET", path: path, caller: callToken, format: llm.OpenAI, bare: true, handler: h}
	}
	return []route{
		{method: "GET", path: "/api/usage/token/", caller: callTokenRead, limit: limitCritical, handler: s.tokenUsage},
		billing("/dashboard/billing/subscription", s.billingSubscription),
		billing("/v1/dashboard/billing/subscription", s.billingSubscription),
		billing("/dashboard/billing/usage", s.billingUsage),
		billing("/v1/dashboard/billing/usage", s.billingUsage),
	}
}

// tokenUsage has New API's odd shape: code is a boolean and there is no success.
func (s *Server) tokenUsage(c *call) error {
	t := c.token.Token
	remain, used, err := s.o.Store.TokenBalance(c.ctx(), t.ID)
	if err != nil {
		return err
	}
	models := make(map[string]bool, len(t.Models))
	for _, m := range t.Models {
		models[m] = true
	}
	return c.json(http.StatusOK, map[string]any{"code": true, "message": "ok", "data": map[string]any{
		"object": "token_usage", "name": t.Name, "total_granted": remain + used, "total_used": used, "total_available": remain,
		"unlimited_quota": t.UnlimitedQuota, "model_limits": models, "model_limits_enabled": t.LimitModels, "expires_at": unixSeconds(t.ExpiresAt, 0),
	}})
}

// unlimitedUSD is what New API shows for a token without a limit.
const unlimitedUSD = json.Number("100000000")

// balances are what the dashboard of the old OpenAI API shows: the token's or,
// by option, the user's.
func (s *Server) balances(c *call) (remain, used int64, err error) {
	if s.options().DisplayTokenStat {
		return s.o.Store.TokenBalance(c.ctx(), c.token.Token.ID)
	}
	u, err := s.o.Store.User(c.ctx(), c.token.User.ID)
	if err != nil {
		return 0, 0, err
	}
	return u.Quota, u.UsedQuota, nil
}

func (s *Server) billingSubscription(c *call) error {
	remain, used, err := s.balances(c)
	if err != nil {
		return err
	}
	t, o := c.token.Token, s.options()
	amount := shownAmount(o, remain+used, 1)
	var until int64
	if o.DisplayTokenStat {
		until = unixSeconds(t.ExpiresAt, 0)
		if t.UnlimitedQuota {
			amount = unlimitedUSD
		}
	}
	return c.json(http.StatusOK, map[string]any{"object": "billing_subscription", "has_payment_method": true,
		"soft_limit_usd": amount, "hard_limit_usd": amount, "system_hard_limit_usd": amount, "access_until": until})
}

func (s *Server) billingUsage(c *call) error {
	_, used, err := s.balances(c)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, map[string]any{"object": "list", "total_usage": shownAmount(s.options(), used, 100)})
}

// shownAmount is quota as the options show it: US dollars, yuan at the
// configured rate, or bare units; times factor, exact to six places.
func shownAmount(o *core.Options, quota, factor int64) json.Number {
	r := new(big.Rat).SetInt64(quota)
	if o.QuotaDisplayType != "TOKENS" && o.DisplayInCurrency {
		r.Quo(r, new(big.Rat).SetInt64(max(o.QuotaPerUnit, 1)))
		if o.QuotaDisplayType == "CNY" {
			r.Mul(r, big.NewRat(int64(o.USDExchangeRate), int64(core.RatioOne)))
		}
	}
	r.Mul(r, new(big.Rat).SetInt64(factor))
	text := r.FloatString(6)
	return json.Number(strings.TrimSuffix(strings.TrimRight(text, "0"), "."))
}
