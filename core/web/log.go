package web

import (
	"encoding/json"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (s *Server) logRoutes() []route {
	return []route{
		{method: "GET", path: "/api/log/", caller: callAdmin, handler: s.listLogs},
		{method: "DELETE", path: "/api/log/", caller: callAdmin, handler: s.deleteLogs, slow: true},
		{method: "GET", path: "/api/log/stat", caller: callAdmin, handler: s.logStat},
		{method: "GET", path: "/api/log/self", caller: callUser, handler: s.listOwnLogs},
		{method: "GET", path: "/api/log/self/stat", caller: callUser, handler: s.ownLogStat},
		{method: "GET", path: "/api/log/token", caller: callTokenRead, limit: limitCritical, handler: s.listTokenLogs},
	}
}

// logView is a log row as New API shows it to its owner.
type logView struct {
	ID               int64        `json:"id"`
	UserID           int64        `json:"user_id"`
	CreatedAt        int64        `json:"created_at"`
	Type             core.LogType `json:"type"`
	Content          string       `json:"content"`
	Username         string       `json:"username"`
	TokenName        string       `json:"token_name"`
	ModelName        string       `json:"model_name"`
	Quota            int64        `json:"quota"`
	PromptTokens     int64        `json:"prompt_tokens"`
	CompletionTokens int64        `json:"completion_tokens"`
	UseTime          int64        `json:"use_time"` // s
	IsStream         bool         `json:"is_stream"`
	Channel          int64        `json:"channel"`
	TokenID          int64        `json:"token_id"`
	Group            string       `json:"group"`
	IP               string       `json:"ip"`
	RequestID        string       `json:"request_id"`
	Other            string       `json:"other"`
}

// adminLogView adds what only administrators see.
type adminLogView struct {
	logView
	ChannelName string `json:"channel_name"`
}

func viewLog(l core.UsageLog) logView {
	return logView{
		ID: l.ID, UserID: l.UserID, CreatedAt: unixSeconds(l.At, 0), Type: l.Type, Content: l.Content, Username: l.Username,
		TokenName: l.TokenName, ModelName: l.Model, Quota: l.Quota, PromptTokens: l.PromptTokens, CompletionTokens: l.CompletionTokens,
		UseTime: int64(l.UseTime / time.Second), IsStream: l.Stream, Channel: l.ChannelID, TokenID: l.TokenID, Group: l.Group, IP: l.IP,
		RequestID: l.RequestID, Other: l.Other,
	}
}

func (s *Server) viewLogForAdmin(l core.UsageLog) adminLogView {
	v := adminLogView{logView: viewLog(l)}
	if ch := s.snapshot().Channels[l.ChannelID]; ch != nil {
		v.ChannelName = ch.Name
	}
	return v
}

// viewLogForOwner renumbers from first and leaves out how the gateway worked.
func viewLogForOwner(first int64) func(core.UsageLog) logView {
	n := first
	return func(l core.UsageLog) logView {
		v := viewLog(l)
		v.ID = n
		n++
		v.Other = publicOther(v.Other)
		return v
	}
}

// adminOther are the keys of a row's `other` that its owner never sees.
var adminOther = []string{"admin_info", "audit_info", "channel_name"}

func publicOther(other string) string {
	if other == "" {
		return ""
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(other), &m); err != nil {
		return "" // no object: nothing tells what of it may be seen
	}
	for _, key := range adminOther {
		delete(m, key)
	}
	out, err := json.Marshal(m)
	if err != nil {
		return ""
	}
	return string(out)
}

// logFilter reads what list and statistics have in common.
func (c *call) logFilter() (core.LogFilter, error) {
	f := core.LogFilter{TokenName: c.query("token_name"), Model: c.query("model_name"), Group: c.query("group"), RequestID: c.query("request_id")}
	typ, err := c.queryInt("type", 0)
	if err != nil {
		return f, err
	}
	if typ < 0 || typ > 100 {
		return f, invalidField("type", "must be 0 (all) or the number of a log type")
	}
	f.Type = core.LogType(typ)
	if f.From, err = c.queryTime("start_timestamp"); err != nil {
		return f, err
	}
	if f.To, err = c.queryTime("end_timestamp"); err != nil {
		return f, err
	}
	if !f.To.IsZero() && f.To.Before(f.From) {
		return f, invalidField("end_timestamp", "must not be before start_timestamp")
	}
	return f, nil
}

// adminLogFilter adds what only administrators may ask for.
func (c *call) adminLogFilter() (core.LogFilter, error) {
	f, err := c.logFilter()
	if err != nil {
		return f, err
	}
	f.Username = c.query("username")
	f.ChannelID, err = c.queryInt("channel", 0)
	return f, err
}

// ownLogFilter is bound to the caller.
func (c *call) ownLogFilter() (core.LogFilter, error) {
	f, err := c.logFilter()
	f.UserID = c.user.ID
	return f, err
}

// logWindow is how far a list of logs can be paged: what lies deeper is found by
// a time range, not by reading over everything before it.
const logWindow = 10_000

func (c *call) logQuery() (core.PageQuery, error) {
	q := c.pageQuery()
	if q.Offset >= logWindow {
		return q, invalidField("p", "lists of logs end after 10000 rows; narrow start_timestamp and end_timestamp")
	}
	return q, nil
}

func (s *Server) listLogs(c *call) error {
	f, err := c.adminLogFilter()
	if err != nil {
		return err
	}
	q, err := c.logQuery()
	if err != nil {
		return err
	}
	page, err := s.o.Store.Logs(c.ctx(), f, q)
	if err != nil {
		return err
	}
	return replyPage(c, q, page, s.viewLogForAdmin)
}

func (s *Server) listOwnLogs(c *call) error {
	f, err := c.ownLogFilter()
	if err != nil {
		return err
	}
	q, err := c.logQuery()
	if err != nil {
		return err
	}
	page, err := s.o.Store.Logs(c.ctx(), f, q)
	if err != nil {
		return err
	}
	return replyPage(c, q, page, viewLogForOwner(int64(q.Offset)+1))
}

// tokenLogs is how many rows a token may see of itself.
const tokenLogs = 1000

func (s *Server) listTokenLogs(c *call) error {
	page, err := s.o.Store.Logs(c.ctx(), core.LogFilter{UserID: c.token.User.ID, TokenID: c.token.Token.ID}, core.PageQuery{Limit: tokenLogs})
	if err != nil {
		return err
	}
	view := viewLogForOwner(1)
	out := make([]logView, 0, len(page.Items))
	for _, l := range page.Items {
		out = append(out, view(l))
	}
	return c.ok(out)
}

func (s *Server) logStat(c *call) error {
	f, err := c.adminLogFilter()
	if err != nil {
		return err
	}
	return s.replyStat(c, f)
}

func (s *Server) ownLogStat(c *call) error {
	f, err := c.ownLogFilter()
	if err != nil {
		return err
	}
	return s.replyStat(c, f)
}

func (s *Server) replyStat(c *call, f core.LogFilter) error {
	stat, err := s.o.Store.LogStat(c.ctx(), f)
	if err != nil {
		return err
	}
	return c.ok(map[string]int64{"quota": stat.Quota, "rpm": stat.RPM, "tpm": stat.TPM})
}

// deleteLogs deletes what is older than target_timestamp, in batches; it may
// take long and is written to the audit log first.
func (s *Server) deleteLogs(c *call) error {
	before, err := c.queryTime("target_timestamp")
	if err != nil {
		return err
	}
	if before.IsZero() {
		return invalidField("target_timestamp", "is required: logs before that time are deleted")
	}
	detail, err := json.Marshal(map[string]int64{"before": before.Unix()})
	if err != nil {
		return err
	}
	if err := s.o.Store.Audit(c.ctx(), c.actor(), store.KindLog, "", core.OpDelete, string(detail)); err != nil {
		return err
	}
	n, err := s.o.Store.DeleteLogs(c.ctx(), before)
	if err != nil {
		return err
	}
	return c.ok(n)
}
