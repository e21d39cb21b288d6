package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"

	"github.com/sluice-gateway/sluice/core"
)

// noTime is the time of what never happened.
var noTime time.Time

// channelView is a channel as New API shows it, without its key. JSON texts stay
// texts.
type channelView struct {
	ID                 int64              `json:"id"`
	Type               int                `json:"type"`
	OpenAIOrganization string             `json:"openai_organization"`
	TestModel          string             `json:"test_model"`
	Status             core.ChannelStatus `json:"status"`
	Name               string             `json:"name"`
	Weight             int64              `json:"weight"`
	CreatedTime        int64              `json:"created_time"`
	TestTime           int64              `json:"test_time"`
	ResponseTime       int64              `json:"response_time"` // ms
	BaseURL            string             `json:"base_url"`
	Other              string             `json:"other"`
	Balance            core.Ratio         `json:"balance"`
	BalanceUpdatedTime int64              `json:"balance_updated_time"`
	Models             string             `json:"models"`
	Group              string             `json:"group"`
	UsedQuota          int64              `json:"used_quota"`
	ModelMapping       string             `json:"model_mapping"`
	StatusCodeMapping  string             `json:"status_code_mapping"`
	Priority           int64              `json:"priority"`
	AutoBan            int                `json:"auto_ban"`
	OtherInfo          string             `json:"other_info"`
	Tag                string             `json:"tag"`
	Setting            string             `json:"setting"`
	ParamOverride      string             `json:"param_override"`
	HeaderOverride     string             `json:"header_override"`
	Remark             string             `json:"remark"`
	ChannelInfo        channelInfo        `json:"channel_info"`
	Settings           string             `json:"settings"`
}

// multiKeyRandom is how a key is chosen where a channel has several.
const multiKeyRandom = "random"

// channelInfo tells of channels with several keys.
type channelInfo struct {
	IsMultiKey   bool           `json:"is_multi_key"`
	Size         int            `json:"multi_key_size"`
	StatusList   map[string]int `json:"multi_key_status_list"`
	PollingIndex int            `json:"multi_key_polling_index"`
	Mode         string         `json:"multi_key_mode"`
}

func (s *Server) viewChannel(ch *core.Channel) channelView {
	v := channelView{
		ID: ch.ID, Type: ch.Type, OpenAIOrganization: ch.Organization, TestModel: ch.TestModel, Status: ch.Status, Name: ch.Name,
		Weight: ch.Weight, CreatedTime: unixSeconds(ch.CreatedAt, 0), TestTime: unixSeconds(ch.TestedAt, 0), ResponseTime: ch.ResponseTime.Milliseconds(),
		BaseURL: ch.BaseURL, Other: ch.Other, Balance: ch.Balance, BalanceUpdatedTime: unixSeconds(ch.BalanceAt, 0),
		Models: strings.Join(ch.Models, ","), Group: strings.Join(ch.Groups, ","), UsedQuota: ch.UsedQuota,
		ModelMapping: ch.ModelMapping, StatusCodeMapping: ch.StatusCodeMapping, Priority: ch.Priority, OtherInfo: ch.OtherInfo, Tag: ch.Tag,
		Setting: hideProxyPassword(ch.Setting), ParamOverride: ch.ParamOverride, HeaderOverride: ch.HeaderOverride, Remark: ch.Remark, Settings: ch.Settings,
		ChannelInfo: channelInfo{StatusList: map[string]int{}},
	}
	if ch.AutoBan {
		v.AutoBan = 1
	}
	key := ch.Key
	if known := s.snapshot().Channels[ch.ID]; key == "" && known != nil {
		key = known.Key
	}
	if n := len(splitKeys(key.Reveal())); n > 1 {
		v.ChannelInfo.IsMultiKey, v.ChannelInfo.Size, v.ChannelInfo.Mode = true, n, multiKeyRandom
	}
	return v
}

// hiddenPassword stands where a proxy's password was.
const hiddenPassword = "__hidden__"

// hideProxyPassword keeps the password of a proxy URL out of replies.
func hideProxyPassword(setting string) string {
	u, pass := settingProxy(setting)
	if u == nil || pass == "" {
		return setting
	}
	u.User = url.UserPassword(u.User.Username(), hiddenPassword)
	out, err := sjson.Set(setting, "proxy", u.String())
	if err != nil {
		return ""
	}
	return out
}

// restoreProxyPassword puts a hidden password back, for the same user and proxy.
func restoreProxyPassword(setting, stored string) string {
	u, pass := settingProxy(setting)
	if u == nil || pass != hiddenPassword {
		return setting
	}
	was, old := settingProxy(stored)
	if was == nil || old == "" || was.Host != u.Host || was.Scheme != u.Scheme || was.User.Username() != u.User.Username() {
		return setting
	}
	out, err := sjson.Set(setting, "proxy", was.String())
	if err != nil {
		return setting
	}
	return out
}

func settingProxy(setting string) (u *url.URL, password string) {
	text := gjson.Get(setting, "proxy").String()
	if text == "" {
		return nil, ""
	}
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return nil, ""
	}
	password, _ = u.User.Password()
	return u, password
}

// channelInput is a channel as a client sends it: a nil field was not sent.
type channelInput struct {
	Type               *int                `json:"type"`
	Key                *string             `json:"key"`
	OpenAIOrganization *string             `json:"openai_organization"`
	TestModel          *string             `json:"test_model"`
	Status             *core.ChannelStatus `json:"status"`
	Name               *string             `json:"name"`
	Weight             *int64              `json:"weight"`
	BaseURL            *string             `json:"base_url"`
	Other              *string             `json:"other"`
	Models             *nameList           `json:"models"`
	Group              *nameList           `json:"group"`
	ModelMapping       *jsonText           `json:"model_mapping"`
	StatusCodeMapping  *jsonText           `json:"status_code_mapping"`
	Priority           *int64              `json:"priority"`
	AutoBan            *int                `json:"auto_ban"`
	Tag                *string             `json:"tag"`
	Setting            *jsonText           `json:"setting"`
	ParamOverride      *jsonText           `json:"param_override"`
	HeaderOverride     *jsonText           `json:"header_override"`
	Remark             *string             `json:"remark"`
	Settings           *jsonText           `json:"settings"`
}

// channelRaw is channelInput under a name that can be embedded beside a field
// called Channel.
type channelRaw channelInput

func (in *channelInput) key() string {
	if in.Key == nil {
		return ""
	}
	return *in.Key
}

// apply puts what was sent over ch, but for key and, on existing channels,
// status. An empty name, list of models or groups means: as it was.
func (in *channelInput) apply(ch *core.Channel) {
	set(&ch.Type, in.Type)
	set(&ch.Organization, in.OpenAIOrganization)
	set(&ch.TestModel, in.TestModel)
	set(&ch.Weight, in.Weight)
	set(&ch.Priority, in.Priority)
	set(&ch.Other, in.Other)
	set(&ch.Tag, in.Tag)
	set(&ch.Remark, in.Remark)
	setText(&ch.ModelMapping, in.ModelMapping)
	setText(&ch.StatusCodeMapping, in.StatusCodeMapping)
	setText(&ch.Setting, in.Setting)
	setText(&ch.ParamOverride, in.ParamOverride)
	setText(&ch.HeaderOverride, in.HeaderOverride)
	setText(&ch.Settings, in.Settings)
	if in.BaseURL != nil {
		ch.BaseURL = strings.TrimRight(strings.TrimSpace(*in.BaseURL), "/")
	}
	if in.AutoBan != nil {
		ch.AutoBan = *in.AutoBan != 0
	}
	if in.Name != nil && strings.TrimSpace(*in.Name) != "" {
		ch.Name = strings.TrimSpace(*in.Name)
	}
	if in.Models != nil && len(*in.Models) > 0 {
		ch.Models = *in.Models
	}
	if in.Group != nil && len(*in.Group) > 0 {
		ch.Groups = *in.Group
	}
	if ch.ID == 0 && in.Status != nil && *in.Status != 0 {
		ch.Status = *in.Status
	}
}

func set[T any](field *T, value *T) {
	if value != nil {
		*field = *value
	}
}

func setText(field *string, value *jsonText) {
	if value != nil {
		*field = string(*value)
	}
}

// nameList is "a,b" or ["a","b"], without blanks, empties and repeats.
type nameList []string

// UnmarshalJSON implements json.Unmarshaler.
func (l *nameList) UnmarshalJSON(b []byte) error {
	var parts []string
	if len(b) > 0 && b[0] == '[' {
		if err := json.Unmarshal(b, &parts); err != nil {
			return fmt.Errorf("a list of names: %w", err)
		}
	} else {
		var text string
		if err := json.Unmarshal(b, &text); err != nil {
			return fmt.Errorf("names with commas between them: %w", err)
		}
		parts = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
	}
	out := make(nameList, 0, len(parts))
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	*l = out
	return nil
}

// jsonText is a text that holds JSON; a client may send the JSON itself.
type jsonText string

// UnmarshalJSON implements json.Unmarshaler.
func (t *jsonText) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, (*string)(t))
	}
	if !bytes.Equal(b, []byte("null")) {
		*t = jsonText(b)
	}
	return nil
}

// jsonKeys reads a JSON list of keys. An object is a credential file: it stays
// JSON, on one line.
func jsonKeys(text string) ([]string, bool) {
	var list []json.RawMessage
	if !strings.HasPrefix(text, "[") || json.Unmarshal([]byte(text), &list) != nil {
		return nil, false
	}
	out := make([]string, 0, len(list))
	for _, raw := range list {
		var key string
		if json.Unmarshal(raw, &key) != nil {
			var b bytes.Buffer
			if json.Compact(&b, raw) != nil {
				return nil, false
			}
			key = b.String()
		}
		if key = strings.TrimSpace(key); key != "" && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out, true
}

// The longest texts of a channel, in characters; JSON texts in bytes.
const (
	channelNameMax = 191
	channelTextMax = 60_000
)

// checkChannel fills in what may be left out and reports what would keep the
// channel from being stored or used.
func (s *Server) checkChannel(ch *core.Channel) error {
	row, ok := s.o.Providers.Row(ch.Type)
	if !ok {
		return invalidField("type", fmt.Sprintf("%d is no channel type of the provider catalogue", ch.Type))
	}
	if ch.Name == "" {
		ch.Name = row.Name
	}
	if len(ch.Groups) == 0 {
		ch.Groups = []string{"default"}
	}
	switch ch.Status {
	case core.ChannelEnabled, core.ChannelDisabled, core.ChannelAutoDisabled:
	default:
		return invalidField("status", "must be 1 (enabled), 2 (disabled) or 3 (disabled by the system)")
	}
	for _, f := range []struct {
		name, text string
		max        int
	}{
		{"name", ch.Name, channelNameMax}, {"tag", ch.Tag, channelNameMax}, {"remark", ch.Remark, 255}, {"test_model", ch.TestModel, 255},
		{"openai_organization", ch.Organization, 255}, {"other", ch.Other, 2000}, {"base_url", ch.BaseURL, 2000},
		{"key", ch.Key.Reveal(), channelTextMax}, {"model_mapping", ch.ModelMapping, channelTextMax}, {"status_code_mapping", ch.StatusCodeMapping, 1024},
		{"param_override", ch.ParamOverride, channelTextMax}, {"header_override", ch.HeaderOverride, channelTextMax},
		{"setting", ch.Setting, channelTextMax}, {"settings", ch.Settings, channelTextMax}, {"models", strings.Join(ch.Models, ","), channelTextMax},
	} {
		if utf8.RuneCountInString(f.text) > f.max {
			return invalidField(f.name, fmt.Sprintf("must be at most %d characters", f.max))
		}
	}
	for _, m := range ch.Models {
		if len(m) > 255 {
			return invalidField("models", "a model name has at most 255 bytes")
		}
	}
	for _, g := range ch.Groups {
		if err := core.CheckGroupName(g); err != nil {
			err.Param = "group"
			return err
		}
	}
	if err := ch.Prepare(); err != nil {
		return fieldError(err)
	}
	draft := *ch
	draft.ID = 0 // what the relay holds of the stored channel stays as it is
	if err := s.o.Providers.Check(&draft); err != nil {
		e := *asError(err)
		e.Code, e.Message = core.CodeInvalidRequest, strings.TrimPrefix(e.Message, "channel #0: ")
		if field, rule, ok := strings.Cut(e.Message, ": "); ok {
			e.Param, e.Message = field, field+": "+rule
		} else if core.IsCode(err, core.CodeChannelKey) {
			e.Param, e.Message = "key", "key: is required"
		}
		return &e
	}
	return nil
}
