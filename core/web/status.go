package web

import (
	"encoding/json"

	"github.com/sluice-gateway/sluice/core"
)

func (s *Server) statusRoutes() []route {
	return []route{
		{method: "GET", path: "/api/status", caller: callAnyone, limit: limitNone, head: true, handler: s.status},
	}
}

// status is what load balancers and consoles ask first. It answers from memory:
// a dependency that is down does not make it fail. The one question to the
// database, whether root was made, has a short time and counts as yes when there
// is no answer, so that no console offers to set up what may be in use.
func (s *Server) status(c *call) error {
	o := s.options()
	v := o.Values
	yes := func(key string) bool { return v[key] == "true" || v[key] == "1" }
	done, known := s.setUp(c.ctx())
	data := map[string]any{
		"version": s.o.Version, "start_time": s.started.Unix(), "system_name": v["SystemName"], "logo": v["Logo"], "footer_html": v["Footer"],
		"server_address": s.serverAddress(o), "docs_link": v["general_setting.docs_link"], "theme": "default", "setup": done || !known,
		"demo_site_enabled": o.DemoSiteEnabled, "self_use_mode_enabled": o.SelfUseModeEnabled, "default_collapse_sidebar": yes("DefaultCollapseSidebar"),
		"HeaderNavModules": v["HeaderNavModules"], "SidebarModulesAdmin": v["SidebarModulesAdmin"], "chats": rawOr(v["Chats"], "[]"),

		"register_enabled": o.RegisterEnabled, "password_login_enabled": o.PasswordLoginEnabled, "password_register_enabled": o.PasswordRegisterEnabled,
		"user_agreement_enabled": v["legal.user_agreement"] != "", "privacy_policy_enabled": v["legal.privacy_policy"] != "",

		"quota_per_unit": o.QuotaPerUnit, "display_in_currency": o.DisplayInCurrency, "quota_display_type": o.QuotaDisplayType,
		"custom_currency_symbol": v["general_setting.custom_currency_symbol"], "custom_currency_exchange_rate": number(v["general_setting.custom_currency_exchange_rate"]),
		"usd_exchange_rate": o.USDExchangeRate, "price": number(v["Price"]), "stripe_unit_price": 0, "min_topup": number(v["MinTopUp"]), "top_up_link": v["TopUpLink"],

		"enable_batch_update": false, "enable_data_export": yes("DataExportEnabled"), "data_export_default_time": v["DataExportDefaultTime"],
		"default_use_auto_group": o.DefaultUseAutoGroup,
	}
	for _, key := range statusOff {
		data[key] = false
	}
	for _, key := range statusEmpty {
		data[key] = ""
	}
	data["linuxdo_minimum_trust_level"] = 0
	return c.ok(data)
}

// statusOff and statusEmpty are keys of New API for what is not offered: clients
// find them and see that it is off.
var (
	statusOff = []string{"email_verification", "github_oauth", "discord_oauth", "linuxdo_oauth", "telegram_oauth", "wechat_login", "oidc_enabled", "turnstile_check",
		"passkey_login", "passkey_allow_insecure", "enable_drawing", "enable_task", "mj_notify_enabled", "checkin_enabled", "api_info_enabled", "uptime_kuma_enabled",
		"announcements_enabled", "faq_enabled"}
	statusEmpty = []string{"github_client_id", "discord_client_id", "linuxdo_client_id", "telegram_bot_name", "wechat_qrcode", "oidc_client_id",
		"oidc_authorization_endpoint", "oidc_display_name", "turnstile_site_key", "passkey_display_name", "passkey_rp_id", "passkey_origins",
		"passkey_user_verification", "passkey_attachment"}
)

// serverAddress is the public base of links.
func (s *Server) serverAddress(o *core.Options) string {
	if a := o.Values["ServerAddress"]; a != "" {
		return a
	}
	return s.o.Config().Node.FrontendBaseURL
}

// rawOr is a JSON text as JSON, or def where it is none.
func rawOr(text, def string) json.RawMessage {
	if !json.Valid([]byte(text)) {
		return json.RawMessage(def)
	}
	return json.RawMessage(text)
}

// number is a decimal text as a JSON number.
func number(text string) core.Ratio {
	r, err := core.ParseRatio(text)
	if err != nil {
		return 0
	}
	return r
}
