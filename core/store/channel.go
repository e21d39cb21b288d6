package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// channelRow is a row of sluice_channels. Sealed are the key and the texts that
// often hold secrets: proxy passwords, authorization headers, parameters.
type channelRow struct {
	bun.BaseModel     `bun:"table:sluice_channels,alias:c"`
	ID                int64  `bun:"id,pk,autoincrement"`
	Type              int    `bun:"type"`
	Key               []byte `bun:"key_sealed"`
	Name              string `bun:"name"`
	Status            int    `bun:"status"`
	Weight            int64  `bun:"weight"`
	Priority          int64  `bun:"priority"`
	BaseURL           string `bun:"base_url"`
	Organization      string `bun:"organization"`
	TestModel         string `bun:"test_model"`
	Other             string `bun:"other"`
	Models            string `bun:"model_list"`
	Groups            string `bun:"group_list"`
	ModelMapping      string `bun:"model_mapping"`
	StatusCodeMapping string `bun:"status_code_mapping"`
	ParamOverride     []byte `bun:"param_override_sealed"`
	HeaderOverride    []byte `bun:"header_override_sealed"`
	Setting           []byte `bun:"setting_sealed"`
	Settings          []byte `bun:"settings_sealed"`
	Tag               string `bun:"tag"`
	Remark            string `bun:"remark"`
	AutoBan           bool   `bun:"auto_ban"`
	Balance           int64  `bun:"balance"`
	BalanceAt         int64  `bun:"balance_at"`
	UsedQuota         int64  `bun:"used_quota"`
	ResponseTime      int64  `bun:"response_time"`
	TestedAt          int64  `bun:"tested_at"`
	CreatedAt         int64  `bun:"created_at"`
	OtherInfo         string `bun:"other_info"`
	Rev               int64  `bun:"rev"`
}

const channelsTable = "sluice_channels"

// sealedText pairs a sealed column of a channel with its text.
type sealedText struct {
	column string
	sealed *[]byte
	text   *string
}

func (r *channelRow) sealedTexts(c *core.Channel) []sealedText {
	return []sealedText{
		{"key", &r.Key, (*string)(&c.Key)},
		{"param_override", &r.ParamOverride, &c.ParamOverride},
		{"header_override", &r.HeaderOverride, &c.HeaderOverride},
		{"setting", &r.Setting, &c.Setting},
		{"settings", &r.Settings, &c.Settings},
	}
}

// channel opens and prepares a row; without withKey the key stays sealed. With an
// error comes what could be read.
func (s *Store) channel(r *channelRow, withKey bool) (*core.Channel, error) {
	c := &core.Channel{ID: r.ID, Type: r.Type, Name: r.Name, Status: core.ChannelStatus(r.Status), Weight: r.Weight, Priority: r.Priority,
		BaseURL: r.BaseURL, Organization: r.Organization, TestModel: r.TestModel, Other: r.Other, Models: splitList(r.Models), Groups: splitList(r.Groups),
		ModelMapping: r.ModelMapping, StatusCodeMapping: r.StatusCodeMapping, Tag: r.Tag, Remark: r.Remark, AutoBan: r.AutoBan,
		Balance: core.Ratio(r.Balance), BalanceAt: fromMillis(r.BalanceAt), UsedQuota: r.UsedQuota, ResponseTime: time.Duration(r.ResponseTime) * time.Millisecond,
		TestedAt: fromMillis(r.TestedAt), CreatedAt: fromMillis(r.CreatedAt), OtherInfo: r.OtherInfo, Rev: core.Revision(r.Rev)}
	id := strconv.FormatInt(r.ID, 10)
	var err error
	for _, t := range r.sealedTexts(c) {
		if t.column == "key" && !withKey {
			continue
		}
		text, e := s.keys.open(*t.sealed, channelsTable, t.column, id)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s of channel %d: %w", t.column, r.ID, e))
		}
		*t.text = text
	}
	if e := c.Prepare(); e != nil {
		err = errors.Join(err, fmt.Errorf("channel %d: %w", r.ID, e))
	}
	return c, err
}

func checkChannel(c *core.Channel) error {
	if err := c.Prepare(); err != nil {
		return core.WrapError(core.CodeInvalidRequest, err, "channel: %v", err)
	}
	for _, f := range []struct {
		name, text string
		limit      int
	}{{"name", c.Name, 191}, {"base_url", c.BaseURL, 1024}, {"organization", c.Organization, 255}, {"test_model", c.TestModel, 255}, {"tag", c.Tag, 191}, {"remark", c.Remark, 255},
		{"other", c.Other, 64 << 10}, {"key", c.Key.Reveal(), 1 << 20}, {"setting", c.Setting, 64 << 10}, {"settings", c.Settings, 64 << 10},
		{"param_override", c.ParamOverride, 64 << 10}, {"header_override", c.HeaderOverride, 64 << 10}, {"model_mapping", c.ModelMapping, 1 << 20},
		{"status_code_mapping", c.StatusCodeMapping, 64 << 10}, {"other_info", c.OtherInfo, 64 << 10}} {
		if err := checkText(f.name, f.text, f.limit); err != nil {
			return err
		}
	}
	if err := checkList("models", c.Models); err != nil {
		return err
	}
	if err := checkList("group", c.Groups); err != nil {
		return err
	}
	if c.Status < core.ChannelEnabled || c.Status > core.ChannelAutoDisabled {
		return invalid("status", "%d is no state of a channel", c.Status)
	}
	return nil
}

// fill copies the columns that management writes, but for the sealed ones.
func (r *channelRow) fill(c *core.Channel) {
	r.Type, r.Name, r.Status, r.Weight, r.Priority, r.BaseURL = c.Type, c.Name, int(c.Status), c.Weight, c.Priority, c.BaseURL
	r.Organization, r.TestModel, r.Other, r.Models, r.Groups = c.Organization, c.TestModel, c.Other, strings.Join(c.Models, ","), strings.Join(c.Groups, ",")
	r.ModelMapping, r.StatusCodeMapping, r.Tag, r.Remark, r.AutoBan, r.OtherInfo = c.ModelMapping, c.StatusCodeMapping, c.Tag, c.Remark, c.AutoBan, c.OtherInfo
}

// CreateChannel inserts a channel and sets ID and, if it is zero, CreatedAt.
// What does not Prepare is refused.
func (tx *Tx) CreateChannel(ctx context.Context, c *core.Channel) error {
	if err := checkChannel(c); err != nil {
		return err
	}
	if c.CreatedAt.IsZero() {
		c.CreatedAt = tx.s.now()
	}
	row := &channelRow{CreatedAt: millis(c.CreatedAt), Balance: int64(c.Balance), BalanceAt: millis(c.BalanceAt)}
	row.fill(c)
	if _, err := tx.db.NewInsert().Model(row).Exec(ctx); err != nil {
		return err
	}
	c.ID = row.ID
	var cols []string
	var err error
	for _, t := range row.sealedTexts(c) { // sealed to the id, which is known only now
		if *t.sealed, err = tx.s.keys.seal(*t.text, channelsTable, t.column, strconv.FormatInt(row.ID, 10)); err != nil {
			return err
		}
		cols = append(cols, t.column+"_sealed")
	}
	if _, err := tx.db.NewUpdate().Model(row).Column(cols...).WherePK().Exec(ctx); err != nil {
		return err
	}
	tx.noteID(core.KindChannel, row.ID, core.OpPut).with("created", true)
	return nil
}

// SaveChannel writes everything of a channel but what tests, balance checks
// and the ledger write. An empty Key keeps the stored one.
func (tx *Tx) SaveChannel(ctx context.Context, c *core.Channel) error {
	if err := checkChannel(c); err != nil {
		return err
	}
	before := new(channelRow)
	if err := tx.lock(ctx, before, "channel", "id = ?", c.ID); err != nil {
		return err
	}
	after := *before
	after.fill(c)
	id := strconv.FormatInt(c.ID, 10)
	for _, t := range after.sealedTexts(c) {
		if t.column == "key" && *t.text == "" {
			continue
		}
		old, err := tx.s.keys.open(*t.sealed, channelsTable, t.column, id)
		if err != nil {
			*t.sealed, old = nil, "" // replaced by what is saved now
		}
		if *t.sealed, err = tx.s.keys.resealed(*t.sealed, old, *t.text, channelsTable, t.column, c.ID); err != nil {
			return err
		}
	}
	_, err := tx.save(ctx, core.KindChannel, id, before, &after)
	return err
}

// ChannelForUpdate reads a channel with its key and keeps it locked until the
// end of the transaction.
func (tx *Tx) ChannelForUpdate(ctx context.Context, id int64) (*core.Channel, error) {
	row := new(channelRow)
	if err := tx.lock(ctx, row, "channel", "id = ?", id); err != nil {
		return nil, err
	}
	c, err := tx.s.channel(row, true)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// DeleteChannel removes a channel.
func (tx *Tx) DeleteChannel(ctx context.Context, id int64) error {
	n, err := matched(tx.db.ExecContext(ctx, "DELETE FROM sluice_channels WHERE id = ?", id))
	if err != nil {
		return err
	}
	if n == 0 {
		return notFound("channel")
	}
	tx.noteID(core.KindChannel, id, core.OpDelete)
	return nil
}

// SetChannelStatus writes a channel's state and the reason for it (JSON).
func (tx *Tx) SetChannelStatus(ctx context.Context, id int64, status core.ChannelStatus, otherInfo string) error {
	before := new(channelRow)
	if err := tx.lock(ctx, before, "channel", "id = ?", id); err != nil {
		return err
	}
	if status < core.ChannelEnabled || status > core.ChannelAutoDisabled {
		return invalid("status", "%d is no state of a channel", status)
	}
	after := *before
	after.Status, after.OtherInfo = int(status), otherInfo
	_, err := tx.save(ctx, core.KindChannel, strconv.FormatInt(id, 10), before, &after)
	return err
}

// SetChannelTest notes how a test went. It is no replicated state.
func (s *Store) SetChannelTest(ctx context.Context, id int64, responseTime time.Duration, at time.Time) error {
	_, err := s.main.write.ExecContext(ctx, "UPDATE sluice_channels SET response_time = ?, tested_at = ? WHERE id = ?", responseTime.Milliseconds(), millis(at), id)
	return s.wrap("set channel test", err)
}

// SetChannelBalance notes what the vendor says is left. It is no replicated
// state.
func (s *Store) SetChannelBalance(ctx context.Context, id int64, balance core.Ratio, at time.Time) error {
	_, err := s.main.write.ExecContext(ctx, "UPDATE sluice_channels SET balance = ?, balance_at = ? WHERE id = ?", int64(balance), millis(at), id)
	return s.wrap("set channel balance", err)
}

// Channel reads a channel with its key opened.
func (s *Store) Channel(ctx context.Context, id int64) (*core.Channel, error) {
	row := new(channelRow)
	if err := s.main.read.NewSelect().Model(row).Where("id = ?", id).Scan(ctx); err != nil {
		return nil, s.wrap("channel", missing(err, "channel"))
	}
	c, err := s.channel(row, true)
	if err != nil {
		return nil, s.wrap("channel", err)
	}
	return c, nil
}

// ChannelFilter selects channels; zero values select all.
type ChannelFilter struct {
	Keyword  string // part of name or base URL, or an id
	Group    string // a group that the channel lists
	Model    string // part of the list of models
	Status   *core.ChannelStatus
	Disabled bool // any state but enabled
	Type     *int
	Tag      string
	SortBy   string // id, name, priority, weight, balance, response_time, used_quota, test_time, created_time; "" = priority, then id
	Desc     bool
}

// channelOrder lists the columns that may be sorted by.
var channelOrder = map[string]string{"id": "id", "name": "name", "priority": "priority", "weight": "weight", "balance": "balance", "response_time": "response_time",
	"used_quota": "used_quota", "test_time": "tested_at", "created_time": "created_at", "status": "status", "type": "type"}

// Channels lists channels without their keys, and counts how many there are
// of each type under the filter without its Type.
func (s *Store) Channels(ctx context.Context, p core.PageQuery, f ChannelFilter) (core.Page[*core.Channel], map[int]int64, error) {
	var page core.Page[*core.Channel]
	var like, models string
	var err error
	if f.Keyword != "" {
		if like, err = pattern(f.Keyword); err != nil {
			return page, nil, err
		}
	}
	if f.Model != "" {
		if models, err = pattern(f.Model); err != nil {
			return page, nil, err
		}
	}
	counts, err := s.countChannels(ctx, f, like, models)
	if err != nil {
		return page, nil, s.wrap("channels", err)
	}
	var rows []*channelRow
	q := f.where(s.main.read.NewSelect().Model(&rows).ExcludeColumn("key_sealed"), like, models)
	for t, n := range counts {
		if f.Type == nil || *f.Type == t {
			page.Total += n
		}
	}
	if f.Type != nil {
		q = q.Where("type = ?", *f.Type)
	}
	if err := window(f.order(q), p).Scan(ctx); err != nil {
		return page, nil, s.wrap("channels", err)
	}
	page.Items = make([]*core.Channel, len(rows))
	for i, r := range rows {
		if page.Items[i], err = s.channel(r, false); err != nil { // listed all the same, so that it can be repaired
			s.logger.WarnContext(ctx, "channel is not usable", "channel", r.ID, "error", err)
		}
	}
	return page, counts, nil
}

func (s *Store) countChannels(ctx context.Context, f ChannelFilter, like, models string) (map[int]int64, error) {
	var rows []struct {
		Type int   `bun:"type"`
		N    int64 `bun:"n"`
	}
	q := f.where(s.main.read.NewSelect().Model((*channelRow)(nil)).ColumnExpr("type, COUNT(*) AS n"), like, models)
	if err := q.GroupExpr("type").Scan(ctx, &rows); err != nil {
		return nil, err
	}
	out := make(map[int]int64, len(rows))
	for _, r := range rows {
		out[r.Type] = r.N
	}
	return out, nil
}

func (f ChannelFilter) where(q *bun.SelectQuery, like, models string) *bun.SelectQuery {
	if like != "" {
		q = q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery {
			q = contains(q, like, "name", "base_url")
			if id, err := strconv.ParseInt(f.Keyword, 10, 64); err == nil {
				q = q.WhereOr("id = ?", id)
			}
			return q
		})
	}
	if models != "" {
		q = q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery { return contains(q, models, "model_list") })
	}
	if f.Group != "" {
		q = q.Where("INSTR(CONCAT(',', group_list, ','), ?) > 0", ","+f.Group+",") // SQLite's LIKE would ignore case
	}
	if f.Status != nil {
		q = q.Where("status = ?", int(*f.Status))
	}
	if f.Disabled {
		q = q.Where("status <> ?", int(core.ChannelEnabled))
	}
	if f.Tag != "" {
		q = q.Where("tag = ?", f.Tag)
	}
	return q
}

func (f ChannelFilter) order(q *bun.SelectQuery) *bun.SelectQuery {
	col, ok := channelOrder[f.SortBy]
	switch {
	case !ok:
		return q.OrderExpr("priority DESC, id DESC")
	case f.Desc:
		return q.OrderExpr(col + " DESC, id DESC")
	}
	return q.OrderExpr(col + " ASC, id ASC")
}
