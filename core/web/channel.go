package web

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (s *Server) channelRoutes() []route {
	return []route{
		{method: "GET", path: "/api/channel/", caller: callAdmin, handler: s.listChannels},
		{method: "GET", path: "/api/channel/search", caller: callAdmin, handler: s.listChannels},
		{method: "GET", path: "/api/channel/models", caller: callAdmin, handler: s.channelModels},
		{method: "GET", path: "/api/channel/models_enabled", caller: callAdmin, handler: s.channelModelsEnabled},
		{method: "GET", path: "/api/channel/ops", caller: callAdmin, handler: s.channelOps},
		{method: "GET", path: "/api/channel/test", caller: callAdmin, handler: s.testChannels, mutates: true},
		{method: "GET", path: "/api/channel/test/:id", caller: callAdmin, handler: s.testChannel, mutates: true, slow: true},
		{method: "GET", path: "/api/channel/fetch_models/:id", caller: callAdmin, handler: s.fetchModels, slow: true},
		{method: "POST", path: "/api/channel/fetch_models", caller: callAdmin, handler: s.fetchModelsOf, slow: true},
		{method: "GET", path: "/api/channel/tag/models", caller: callAdmin, handler: s.tagModels},
		{method: "POST", path: "/api/channel/tag/disabled", caller: callAdmin, handler: s.disableTag},
		{method: "POST", path: "/api/channel/tag/enabled", caller: callAdmin, handler: s.enableTag},
		{method: "PUT", path: "/api/channel/tag", caller: callAdmin, handler: s.editTag},
		{method: "POST", path: "/api/channel/batch", caller: callAdmin, handler: s.deleteChannels},
		{method: "POST", path: "/api/channel/batch/tag", caller: callAdmin, handler: s.tagChannels},
		{method: "POST", path: "/api/channel/status/batch", caller: callAdmin, handler: s.setStatuses},
		{method: "POST", path: "/api/channel/copy/:id", caller: callAdmin, handler: s.copyChannel},
		{method: "POST", path: "/api/channel/fix", caller: callAdmin, handler: s.fixChannels},
		{method: "POST", path: "/api/channel/", caller: callAdmin, handler: s.createChannel},
		{method: "PUT", path: "/api/channel/", caller: callAdmin, handler: s.updateChannel},
		{method: "DELETE", path: "/api/channel/disabled", caller: callAdmin, handler: s.deleteDisabled},
		{method: "GET", path: "/api/channel/:id", caller: callAdmin, handler: s.getChannel},
		{method: "DELETE", path: "/api/channel/:id", caller: callAdmin, handler: s.deleteChannel},
		{method: "POST", path: "/api/channel/:id/status", caller: callAdmin, handler: s.setStatus},
		{method: "POST", path: "/api/channel/:id/key", caller: callRoot, limit: limitCritical, handler: s.revealChannelKey},
	}
}

// channelBatch bounds how many channels one request touches.
const channelBatch = 1000

// channelPage is a page of channels with the number of matches of each type.
type channelPage struct {
	Items      []channelView    `json:"items"`
	Total      int64            `json:"total"`
	Page       int              `json:"page"`
	PageSize   int              `json:"page_size"`
	TypeCounts map[string]int64 `json:"type_counts"`
}

func (s *Server) listChannels(c *call) error {
	f, err := c.channelFilter()
	if err != nil {
		return err
	}
	tagMode, err := c.queryBool("tag_mode")
	if err != nil {
		return err
	}
	if tagMode {
		return s.listTags(c, f)
	}
	q := c.pageQuery()
	page, counts, err := s.o.Store.Channels(c.ctx(), q, f)
	if err != nil {
		return err
	}
	body := newPage(q, page, s.viewChannel)
	return c.ok(channelPage{Items: body.Items, Total: body.Total, Page: body.Page, PageSize: body.PageSize, TypeCounts: typeCounts(counts)})
}

// listTags pages over tags: every channel of a tag is on the page of its tag.
func (s *Server) listTags(c *call, f store.ChannelFilter) error {
	all, err := s.allChannels(c.ctx(), f)
	if err != nil {
		return err
	}
	byTag, counts := map[string][]*core.Channel{}, map[int]int64{}
	for _, ch := range all {
		if ch.Tag != "" {
			byTag[ch.Tag] = append(byTag[ch.Tag], ch)
			counts[ch.Type]++
		}
	}
	tags := slices.Sorted(maps.Keys(byTag))
	q := c.pageQuery()
	out := channelPage{Items: []channelView{}, Total: int64(len(tags)), Page: q.Offset/q.Limit + 1, PageSize: q.Limit, TypeCounts: typeCounts(counts)}
	for i := q.Offset; i < len(tags) && i < q.Offset+q.Limit; i++ {
		for _, ch := range byTag[tags[i]] {
			out.Items = append(out.Items, s.viewChannel(ch))
		}
	}
	return c.ok(out)
}

func typeCounts(counts map[int]int64) map[string]int64 {
	out := make(map[string]int64, len(counts))
	for typ, n := range counts {
		out[strconv.Itoa(typ)] = n
	}
	return out
}

// channelFilter reads what list and search have in common.
func (c *call) channelFilter() (store.ChannelFilter, error) {
	f := store.ChannelFilter{Keyword: c.query("keyword"), Group: c.query("group"), Model: c.query("model"), Tag: c.query("tag"), SortBy: "priority", Desc: true}
	if f.Group == "null" || f.Group == "all" { // what New API's console sends for none
		f.Group = ""
	}
	switch strings.ToLower(c.query("status")) {
	case "enabled", "1":
		f.Status = new(core.ChannelEnabled)
	case "disabled", "0":
		f.Disabled = true
	}
	if text := c.query("type"); text != "" && text != "all" {
		typ, err := c.queryInt("type", 0)
		if err != nil {
			return f, err
		}
		f.Type = new(int(typ))
	}
	byID, err := c.queryBool("id_sort")
	if err != nil {
		return f, err
	}
	if byID {
		f.SortBy = "id"
	}
	if by := c.query("sort_by"); by != "" {
		if !slices.Contains(channelSorts, by) {
			return f, invalidField("sort_by", "must be one of "+strings.Join(channelSorts, ", "))
		}
		f.SortBy = by
	}
	switch strings.ToLower(c.query("sort_order")) {
	case "":
	case "asc":
		f.Desc = false
	case "desc":
		f.Desc = true
	default:
		return f, invalidField("sort_order", "must be asc or desc")
	}
	return f, nil
}

// channelSorts are the columns that a list can be sorted by.
var channelSorts = []string{"id", "name", "type", "status", "priority", "weight", "response_time", "test_time", "balance", "used_quota", "created_time"}

// allChannels reads every match, page by page.
func (s *Server) allChannels(ctx context.Context, f store.ChannelFilter) ([]*core.Channel, error) {
	var out []*core.Channel
	f.SortBy, f.Desc = "id", false
	for q := (core.PageQuery{Limit: channelBatch}); ; q.Offset += q.Limit {
		page, _, err := s.o.Store.Channels(ctx, q, f)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Items...)
		if len(page.Items) < q.Limit {
			return out, nil
		}
	}
}

func (s *Server) getChannel(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	ch, err := s.o.Store.Channel(c.ctx(), id)
	if err != nil {
		return err
	}
	return c.ok(s.viewChannel(ch))
}

// channelCreate is both shapes of New API's POST: the one with a mode, and the
// older bare channel whose key has a channel a line.
type channelCreate struct {
	Mode       string        `json:"mode"`
	MultiMode  string        `json:"multi_key_mode"`
	KeyInName  bool          `json:"batch_add_set_key_prefix_2_name"`
	Channel    *channelInput `json:"channel"`
	channelRaw               // the bare shape
}

func (s *Server) createChannel(c *call) error {
	var body channelCreate
	if err := c.bind(&body); err != nil {
		return err
	}
	in, mode := body.Channel, body.Mode
	if in == nil {
		in = (*channelInput)(&body.channelRaw)
		if mode == "" {
			mode = "batch"
		}
	}
	switch body.MultiMode {
	case "", multiKeyRandom:
	default:
		return invalidField("multi_key_mode", "only random is offered")
	}
	keys := splitKeys(in.key())
	switch mode {
	case "", "single", "multi_to_single": // a channel with several keys draws one for each request
		keys = []string{strings.Join(keys, "\n")}
	case "batch":
	default:
		return invalidField("mode", "must be one of single, batch, multi_to_single")
	}
	if len(keys) == 0 {
		keys = []string{""} // some providers need none; the check below says which
	}
	if len(keys) > channelBatch {
		return invalidField("key", fmt.Sprintf("at most %d channels at once", channelBatch))
	}
	list := make([]*core.Channel, 0, len(keys))
	for _, key := range keys {
		ch := &core.Channel{Status: core.ChannelEnabled, AutoBan: true, CreatedAt: s.o.Now()}
		in.apply(ch)
		ch.Key = core.Secret(key)
		if body.KeyInName && len(keys) > 1 {
			ch.Name = strings.TrimSpace(ch.Name + " " + keyHint(key))
		}
		if err := s.checkChannel(ch); err != nil {
			return err
		}
		list = append(list, ch)
	}
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		for _, ch := range list {
			ch.ID = 0 // a transaction that is tried again makes new rows
			if err := tx.CreateChannel(ctx, ch); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.done()
}

// splitKeys reads a key a line, or a JSON list of keys (objects stay JSON texts).
func splitKeys(text string) []string {
	text = strings.TrimSpace(text)
	if list, ok := jsonKeys(text); ok {
		return list
	}
	if one, ok := jsonKeys("[" + text + "]"); ok && strings.HasPrefix(text, "{") {
		return one // a credential file, over several lines
	}
	var out []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}

// keyHint is the part of a key that tells channels of a batch apart: too little
// to guess the rest.
func keyHint(key string) string {
	if len(key) < 24 {
		return ""
	}
	return key[:8]
}

// channelUpdate is New API's PUT: absent fields and an empty key stay.
type channelUpdate struct {
	ID        int64  `json:"id" validate:"required,min=1"`
	KeyMode   string `json:"key_mode" validate:"omitempty,oneof=append replace"`
	MultiMode string `json:"multi_key_mode" validate:"omitempty,oneof=random"`
	channelRaw
}

func (s *Server) updateChannel(c *call) error {
	var body channelUpdate
	if err := c.bind(&body); err != nil {
		return err
	}
	in := (*channelInput)(&body.channelRaw)
	var saved *core.Channel
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		ch, err := tx.ChannelForUpdate(ctx, body.ID)
		if err != nil {
			return err
		}
		old, stored, upstream := ch.Setting, ch.Key, s.upstreamOf(ch)
		in.apply(ch)
		ch.Setting = restoreProxyPassword(ch.Setting, old)
		kept := stored != ""
		if key := strings.TrimSpace(in.key()); key != "" {
			kept = kept && body.KeyMode == "append"
			if body.KeyMode == "append" {
				key = strings.Join(splitKeys(stored.Reveal()+"\n"+key), "\n")
			}
			ch.Key = core.Secret(key)
		}
		if in.Status != nil && *in.Status != 0 {
			ch.Status, ch.OtherInfo = *in.Status, ""
		}
		if err := s.checkChannel(ch); err != nil {
			return err
		}
		if kept {
			if err := s.maySend(c, ch, upstream); err != nil {
				return err
			}
		}
		if ch.Key == stored {
			ch.Key = "" // the sealed one stays
		}
		saved = ch
		return tx.SaveChannel(ctx, ch)
	})
	if err != nil {
		return err
	}
	return c.ok(s.viewChannel(saved))
}

// upstreamOf tells who reads what a channel sends: the host it is sent to, the
// host it asks for, and a proxy that sees inside.
func (s *Server) upstreamOf(ch *core.Channel) string {
	base := ch.BaseURL
	if base == "" {
		if row, ok := s.o.Providers.Row(ch.Type); ok {
			base = row.BaseURL
		}
	}
	secure := false
	if u, err := url.Parse(base); err == nil && u.Host != "" { // else the name of a plan
		base, secure = strings.ToLower(u.Scheme+"://"+u.Host), u.Scheme == "https" && !s.o.Config().Relay.TLSInsecureSkipVerify
	}
	out := []string{base, "", ""}
	for name, value := range ch.Parsed.Headers {
		if strings.EqualFold(name, "Host") {
			out[1] = value
		}
	}
	if !secure {
		out[2] = ch.Parsed.Proxy.Reveal()
	}
	return strings.Join(out, "\n")
}

// maySend refuses to let a stored key go to another upstream than before by the
// word of who may not read it: to have it sent to oneself is to read it.
func (s *Server) maySend(c *call, ch *core.Channel, before string) error {
	if c.user.Role >= core.RoleRoot || s.upstreamOf(ch) == before {
		return nil
	}
	return invalidField("key", "must be sent again where the upstream's address changes; only root may send a stored key elsewhere")
}

func (s *Server) deleteChannel(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	err = c.update(func(ctx context.Context, tx *store.Tx) error { return tx.DeleteChannel(ctx, id) })
	if err != nil {
		return err
	}
	return c.done()
}

// idList is a body that names channels.
type idList struct {
	IDs []int64 `json:"ids" validate:"required,min=1,max=1000,dive,min=1"`
}

func (s *Server) deleteChannels(c *call) error {
	var body idList
	if err := c.bind(&body); err != nil {
		return err
	}
	return s.deleteAll(c, body.IDs)
}

func (s *Server) deleteDisabled(c *call) error {
	list, err := s.allChannels(c.ctx(), store.ChannelFilter{Disabled: true})
	if err != nil {
		return err
	}
	return s.deleteAll(c, channelIDs(list))
}

func channelIDs(list []*core.Channel) []int64 {
	ids := make([]int64, len(list))
	for i, ch := range list {
		ids[i] = ch.ID
	}
	return ids
}

// deleteAll deletes channels and answers how many there were.
func (s *Server) deleteAll(c *call, ids []int64) error {
	n, err := s.eachChannel(c, ids, func(ctx context.Context, tx *store.Tx, id int64) error { return tx.DeleteChannel(ctx, id) })
	if err != nil {
		return err
	}
	return c.ok(n)
}

// eachChannel runs fn for every id in one transaction, in a fixed order, and
// counts. Ids that do not exist (any more) are passed over.
func (s *Server) eachChannel(c *call, ids []int64, fn func(ctx context.Context, tx *store.Tx, id int64) error) (int, error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	if len(ids) == 0 {
		return 0, nil
	}
	n := 0
	err := c.update(func(ctx context.Context, tx *store.Tx) error {
		n = 0
		for _, id := range ids {
			switch err := fn(ctx, tx, id); {
			case core.IsCode(err, core.CodeNotFound):
			case err != nil:
				return err
			default:
				n++
			}
		}
		return nil
	})
	return n, err
}

// statusBody is a status that an administrator sets.
type statusBody struct {
	Status core.ChannelStatus `json:"status" validate:"required,oneof=1 2"`
}

func (s *Server) setStatus(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	var body statusBody
	if err := c.bind(&body); err != nil {
		return err
	}
	err = c.update(func(ctx context.Context, tx *store.Tx) error {
		return tx.SetChannelStatus(ctx, id, body.Status, s.statusInfo(body.Status))
	})
	if err != nil {
		return err
	}
	return c.ok(true)
}

func (s *Server) setStatuses(c *call) error {
	var body struct {
		idList
		statusBody
	}
	if err := c.bind(&body); err != nil {
		return err
	}
	return s.setAll(c, body.IDs, body.Status)
}

// setAll sets the status of channels and answers how many there were.
func (s *Server) setAll(c *call, ids []int64, status core.ChannelStatus) error {
	n, err := s.eachChannel(c, ids, func(ctx context.Context, tx *store.Tx, id int64) error {
		return tx.SetChannelStatus(ctx, id, status, s.statusInfo(status))
	})
	if err != nil {
		return err
	}
	return c.ok(n)
}

// statusInfo is other_info of a channel whose status was set by hand.
func (s *Server) statusInfo(status core.ChannelStatus) string {
	if status == core.ChannelEnabled {
		return ""
	}
	return fmt.Sprintf(`{"status_reason":"disabled by an administrator","status_time":%d}`, s.o.Now().Unix())
}

func (s *Server) copyChannel(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	keepBalance := false
	if c.query("reset_balance") != "" {
		reset, err := c.queryBool("reset_balance")
		if err != nil {
			return err
		}
		keepBalance = !reset
	}
	suffix := c.query("suffix")
	if suffix == "" {
		suffix = "_copy"
	}
	from, err := s.o.Store.Channel(c.ctx(), id)
	if err != nil {
		return err
	}
	ch := *from
	ch.ID, ch.Rev, ch.Name, ch.CreatedAt = 0, 0, ch.Name+suffix, s.o.Now()
	ch.UsedQuota, ch.ResponseTime = 0, 0
	ch.TestedAt, ch.OtherInfo = noTime, ""
	if !keepBalance {
		ch.Balance, ch.BalanceAt = 0, noTime
	}
	if err := s.checkChannel(&ch); err != nil {
		return err
	}
	err = c.update(func(ctx context.Context, tx *store.Tx) error {
		ch.ID = 0
		return tx.CreateChannel(ctx, &ch)
	})
	if err != nil {
		return err
	}
	return c.ok(map[string]int64{"id": ch.ID})
}

// revealChannelKey is one of the two routes that show a stored secret. That it
// was shown stands in the audit log before the key leaves.
func (s *Server) revealChannelKey(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	ch, err := s.o.Store.Channel(c.ctx(), id)
	if err != nil {
		return err
	}
	if err := s.o.Store.Audit(c.ctx(), c.actor(), core.KindChannel, strconv.FormatInt(id, 10), store.OpReveal, "{}"); err != nil {
		return err
	}
	return c.ok(map[string]string{"key": ch.Key.Reveal()})
}

// fixChannels is New API's rebuild of its ability table. Here the routing table
// is made of the channels at every change, so there is nothing to repair: the
// answer counts the channels that can be routed and those that cannot.
func (s *Server) fixChannels(c *call) error {
	list, err := s.allChannels(c.ctx(), store.ChannelFilter{})
	if err != nil {
		return err
	}
	good, bad := 0, 0
	for _, ch := range list {
		if known := s.snapshot().Channels[ch.ID]; known != nil {
			ch = known // with its key
		}
		ch := *ch
		if s.checkChannel(&ch) != nil {
			bad++
			continue
		}
		good++
	}
	return c.ok(map[string]int{"success": good, "fails": bad})
}

func (s *Server) channelOps(c *call) error {
	return c.ok(map[string]int{"retry_times": s.options().RetryTimes})
}

// modelObject is a model as New API lists it to administrators.
type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// modelsCreated is the creation time that New API gives every model.
const modelsCreated = 1626777600

// channelModels lists the names that a channel may want to offer: those with a
// price and those of any channel.
func (s *Server) channelModels(c *call) error {
	owner := map[string]string{}
	snap := s.snapshot()
	for _, ch := range snap.Channels {
		for _, m := range ch.Models {
			if name := s.providerName(ch.Type); owner[m] == "" || name < owner[m] {
				owner[m] = name
			}
		}
	}
	names := s.modelNames(snap)
	out := make([]modelObject, 0, len(names))
	for _, name := range names {
		out = append(out, modelObject{ID: name, Object: "model", Created: modelsCreated, OwnedBy: owner[name]})
	}
	return c.ok(out)
}

// modelNames are the models that have a price of their own or a channel, sorted.
func (s *Server) modelNames(snap *core.Snapshot) []string {
	names := map[string]struct{}{}
	for name := range snap.Prices {
		if !strings.HasSuffix(name, "*") { // a family of models is no model
			names[name] = struct{}{}
		}
	}
	for _, ch := range snap.Channels {
		for _, m := range ch.Models {
			names[m] = struct{}{}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func (s *Server) providerName(typ int) string {
	if row, ok := s.o.Providers.Row(typ); ok {
		return strings.ToLower(row.Name)
	}
	return ""
}

func (s *Server) channelModelsEnabled(c *call) error {
	seen := map[string]struct{}{}
	for _, ch := range s.snapshot().Channels {
		if ch.Enabled() {
			for _, m := range ch.Models {
				seen[m] = struct{}{}
			}
		}
	}
	out := slices.Sorted(maps.Keys(seen))
	if out == nil {
		out = []string{}
	}
	return c.ok(out)
}

// conflict answers 409 in the envelope; business errors of the table are 200.
func (c *call) conflict(message string) error {
	return c.json(http.StatusConflict, envelope{Message: message, Code: string(core.CodeConflict)})
}

// fieldError makes an error of a rule that core states as "field: rule".
func fieldError(err error) error {
	var e *core.Error
	if errors.As(err, &e) {
		return e
	}
	field, rule, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		return core.Errorf(core.CodeInvalidRequest, "%s", err)
	}
	return invalidField(field, rule)
}
