package core

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// QuotaPerUSD is how many quota units are 1 USD, unless option QuotaPerUnit
// says otherwise.
const QuotaPerUSD = 500_000

// Options are the parsed options that this system acts on. Every other key is
// stored and returned as it is.
type Options struct {
	Values map[string]string // effective text of every known and stored key

	QuotaPerUnit            int64
	QuotaForNewUser         int64
	PreConsumedQuota        int64 // least number of prompt tokens that a reservation assumes
	RetryTimes              int
	RetryStatusCodes        StatusRanges
	LogConsumeEnabled       bool
	RegisterEnabled         bool
	PasswordLoginEnabled    bool
	PasswordRegisterEnabled bool
	SelfUseModeEnabled      bool
	DemoSiteEnabled         bool
	DisplayInCurrency       bool
	DisplayTokenStat        bool
	DefaultUseAutoGroup     bool
	AutoGroups              []string
	MaxUserTokens           int64
	ToolPrices              map[string]Ratio // USD per 1,000 calls, by tool or tool:model-prefix*
	QuotaDisplayType        string
	USDExchangeRate         Ratio
}

// optionRule is one known key: its default text and what a value must be.
type optionRule struct {
	def   string
	check func(string) error
}

func checkBool(s string) error {
	if _, err := strconv.ParseBool(s); err != nil {
		return fmt.Errorf("must be true or false")
	}
	return nil
}

func checkInt(lo, hi int64) func(string) error {
	return func(s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < lo || n > hi {
			return fmt.Errorf("must be a whole number from %d to %d", lo, hi)
		}
		return nil
	}
}

func checkRatio(s string) error {
	r, err := ParseRatio(s)
	if err != nil || r < 0 {
		return fmt.Errorf("must be a number that is not negative, with at most nine decimal places")
	}
	return nil
}

func checkJSON[T any](what string) func(string) error {
	return func(s string) error {
		var v T
		if err := json.Unmarshal([]byte(s), &v); err != nil {
			return fmt.Errorf("must be %s: %w", what, err)
		}
		return nil
	}
}

func checkRatios(s string) error {
	var m map[string]Ratio
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return fmt.Errorf("must be a JSON object {name: number}: %w", err)
	}
	for k, v := range m {
		if v < 0 {
			return fmt.Errorf("%q: must not be negative", k)
		}
		if k == "" || len(k) > 255 {
			return fmt.Errorf("%q: a name has 1 to 255 bytes", k)
		}
	}
	return nil
}

func checkOneOf(words ...string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				return nil
			}
		}
		return fmt.Errorf("must be one of %s", strings.Join(words, ", "))
	}
}

func checkStatusRanges(s string) error { _, err := ParseStatusRanges(s); return err }

func checkAny(string) error { return nil }

// defaultRetryStatusCodes is narrower than New API's: a request that upstream
// refused for its content is not sent to another account.
const defaultRetryStatusCodes = "401,403,408,429,500-503,505-523,525-599"

// optionRules are the known options. The order of effect is: stored value, else def.
var optionRules = map[string]optionRule{
	"QuotaPerUnit":                           {"500000", checkInt(1, 1<<40)},
	"QuotaForNewUser":                        {"0", checkInt(0, 1<<60)},
	"QuotaForInviter":                        {"0", checkInt(0, 1<<60)},
	"QuotaForInvitee":                        {"0", checkInt(0, 1<<60)},
	"QuotaRemindThreshold":                   {"1000", checkInt(0, 1<<60)},
	"PreConsumedQuota":                       {"500", checkInt(0, 1<<40)},
	"RetryTimes":                             {"2", checkInt(0, 20)},
	"AutomaticRetryStatusCodes":              {defaultRetryStatusCodes, checkStatusRanges},
	"LogConsumeEnabled":                      {"true", checkBool},
	"RegisterEnabled":                        {"true", checkBool},
	"PasswordLoginEnabled":                   {"true", checkBool},
	"PasswordRegisterEnabled":                {"true", checkBool},
	"SelfUseModeEnabled":                     {"false", checkBool},
	"DemoSiteEnabled":                        {"false", checkBool},
	"DisplayInCurrencyEnabled":               {"true", checkBool},
	"DisplayTokenStatEnabled":                {"true", checkBool},
	"DefaultUseAutoGroup":                    {"false", checkBool},
	"DefaultCollapseSidebar":                 {"false", checkBool},
	"ExposeRatioEnabled":                     {"false", checkBool},
	"DataExportEnabled":                      {"true", checkBool},
	"DataExportDefaultTime":                  {"hour", checkOneOf("hour", "day", "week")},
	"AutoGroups":                             {`["default"]`, checkJSON[[]string]("a JSON list of group names")},
	"Chats":                                  {"[]", checkJSON[[]map[string]string]("a JSON list of objects {name: url}")},
	"HeaderNavModules":                       {"", checkAny},
	"SidebarModulesAdmin":                    {"", checkAny},
	"SystemName":                             {"Sluice", checkAny},
	"ServerAddress":                          {"", checkAny},
	"Logo":                                   {"", checkAny},
	"Footer":                                 {"", checkAny},
	"Notice":                                 {"", checkAny},
	"About":                                  {"", checkAny},
	"HomePageContent":                        {"", checkAny},
	"Price":                                  {"7.3", checkRatio},
	"USDExchangeRate":                        {"7.3", checkRatio},
	"MinTopUp":                               {"1", checkInt(0, 1<<40)},
	"TopUpLink":                              {"", checkAny},
	"token_setting.max_user_tokens":          {"1000", checkInt(1, 1_000_000)},
	"tool_price_setting.prices":              {`{"web_search":10,"web_search_preview":10,"web_search_preview:gpt-4o*":25,"web_search_preview:gpt-4.1*":25,"file_search":2.5,"google_search":14,"image_generation":150}`, checkRatios},
	"general_setting.docs_link":              {"", checkAny},
	"general_setting.quota_display_type":     {"USD", checkOneOf("USD", "CNY", "TOKENS", "CUSTOM")},
	"general_setting.custom_currency_symbol": {"¤", checkAny},
	"general_setting.custom_currency_exchange_rate": {"1", checkRatio},
	"legal.user_agreement":                          {"", checkAny},
	"legal.privacy_policy":                          {"", checkAny},

	// Views of other tables; see PriceOptions and GroupOptions.
	"ModelRatio":           {"{}", checkRatios},
	"CompletionRatio":      {"{}", checkRatios},
	"ModelPrice":           {"{}", checkRatios},
	"CacheRatio":           {"{}", checkRatios},
	"CreateCacheRatio":     {"{}", checkRatios},
	"ImageRatio":           {"{}", checkRatios},
	"AudioRatio":           {"{}", checkRatios},
	"AudioCompletionRatio": {"{}", checkRatios},
	"GroupRatio":           {"{}", checkRatios},
	"UserUsableGroups":     {"{}", checkJSON[map[string]string]("a JSON object {group: description}")},
	"GroupGroupRatio":      {"{}", checkJSON[map[string]map[string]Ratio]("a JSON object {user group: {used group: number}}")},
}

// CheckOption reports what is wrong with a value, naming the key and the rule.
// Unknown keys are stored as they are, within limits.
func CheckOption(key, value string) error {
	if key == "" || len(key) > 191 {
		return Errorf(CodeInvalidRequest, "option %q: a key has 1 to 191 bytes", key)
	}
	if len(value) > 1<<20 {
		return Errorf(CodeInvalidRequest, "option %s: the value is longer than 1 MB", key)
	}
	if r, ok := optionRules[key]; ok {
		if err := r.check(value); err != nil {
			e := Errorf(CodeInvalidRequest, "option %s: %s", key, err)
			e.Param = key
			return e
		}
	}
	return nil
}

// OptionSecret reports whether a key's value is withheld from lists and sealed, by
// the ending of its name: New API's rule, in any case of letters, and passwords.
func OptionSecret(key string) bool {
	key = strings.ToLower(key)
	for _, end := range []string{"token", "secret", "key", "password"} {
		if strings.HasSuffix(key, end) {
			return true
		}
	}
	return false
}

// ParseOptions reads the stored options over the defaults.
func ParseOptions(stored map[string]string) (*Options, error) {
	v := make(map[string]string, len(optionRules)+len(stored))
	for k, r := range optionRules {
		v[k] = r.def
	}
	for k, s := range stored {
		if err := CheckOption(k, s); err != nil {
			return nil, err
		}
		v[k] = s
	}
	o := &Options{Values: v}
	num := func(k string) int64 { n, _ := strconv.ParseInt(v[k], 10, 64); return n }
	yes := func(k string) bool { b, _ := strconv.ParseBool(v[k]); return b }
	o.QuotaPerUnit, o.QuotaForNewUser, o.PreConsumedQuota = num("QuotaPerUnit"), num("QuotaForNewUser"), num("PreConsumedQuota")
	o.RetryTimes, o.MaxUserTokens = int(num("RetryTimes")), num("token_setting.max_user_tokens")
	o.LogConsumeEnabled, o.RegisterEnabled = yes("LogConsumeEnabled"), yes("RegisterEnabled")
	o.PasswordLoginEnabled, o.PasswordRegisterEnabled = yes("PasswordLoginEnabled"), yes("PasswordRegisterEnabled")
	o.SelfUseModeEnabled, o.DemoSiteEnabled = yes("SelfUseModeEnabled"), yes("DemoSiteEnabled")
	o.DisplayInCurrency, o.DisplayTokenStat = yes("DisplayInCurrencyEnabled"), yes("DisplayTokenStatEnabled")
	o.DefaultUseAutoGroup = yes("DefaultUseAutoGroup")
	o.QuotaDisplayType = v["general_setting.quota_display_type"]
	o.USDExchangeRate, _ = ParseRatio(v["USDExchangeRate"])
	o.RetryStatusCodes, _ = ParseStatusRanges(v["AutomaticRetryStatusCodes"])
	if err := json.Unmarshal([]byte(v["AutoGroups"]), &o.AutoGroups); err != nil {
		return nil, Errorf(CodeInvalidRequest, "option AutoGroups: %s", err)
	}
	if err := json.Unmarshal([]byte(v["tool_price_setting.prices"]), &o.ToolPrices); err != nil {
		return nil, Errorf(CodeInvalidRequest, "option tool_price_setting.prices: %s", err)
	}
	return o, nil
}

// StatusRanges is a set of HTTP status codes, written "429,500-503".
type StatusRanges [][2]int

// ParseStatusRanges reads "429,500-503". An empty text is the empty set.
func ParseStatusRanges(text string) (StatusRanges, error) {
	var out StatusRanges
	for _, f := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
		a, b, ok := strings.Cut(f, "-")
		if !ok {
			b = a
		}
		lo, err1 := strconv.Atoi(a)
		hi, err2 := strconv.Atoi(b)
		if err1 != nil || err2 != nil || lo < 100 || hi > 599 || lo > hi {
			return nil, fmt.Errorf("%q is no status code or range such as 500-503", f)
		}
		out = append(out, [2]int{lo, hi})
	}
	return out, nil
}

// Contains reports whether status is in the set.
func (s StatusRanges) Contains(status int) bool {
	for _, r := range s {
		if status >= r[0] && status <= r[1] {
			return true
		}
	}
	return false
}

// MaxQuota is the largest balance or amount that the system takes in: it leaves
// room to add any two of them.
const MaxQuota = math.MaxInt64 / 4
