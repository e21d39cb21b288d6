package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// tokenRow is a row of sluice_tokens. The key is found by its HMAC and kept
// sealed for the reveal route.
type tokenRow struct {
	bun.BaseModel   `bun:"table:sluice_tokens,alias:t"`
	ID              int64  `bun:"id,pk,autoincrement"`
	UserID          int64  `bun:"user_id"`
	KeyHash         []byte `bun:"key_hash"`
	KeyID           string `bun:"key_id"` // of the secret that KeyHash was made with
	KeySealed       []byte `bun:"key_sealed"`
	KeyPreview      string `bun:"key_preview"`
	Status          int    `bun:"status"`
	Name            string `bun:"name"`
	CreatedAt       int64  `bun:"created_at"`
	AccessedAt      int64  `bun:"accessed_at"`
	ExpiresAt       int64  `bun:"expires_at"`
	RemainQuota     int64  `bun:"remain_quota"`
	UnlimitedQuota  bool   `bun:"unlimited_quota"`
	UsedQuota       int64  `bun:"used_quota"`
	LimitModels     bool   `bun:"limit_models"`
	Models          string `bun:"model_list"`
	AllowIPs        string `bun:"allow_ips"`
	Group           string `bun:"token_group"`
	CrossGroupRetry bool   `bun:"cross_group_retry"`
	Rev             int64  `bun:"rev"`
}

const tokensTable = "sluice_tokens"

func (r *tokenRow) token() (*core.Token, error) {
	ips, err := core.ParseAllowIPs(r.AllowIPs)
	if err != nil {
		return nil, fmt.Errorf("allow_ips of token %d: %w", r.ID, err)
	}
	t := &core.Token{ID: r.ID, UserID: r.UserID, KeyPreview: r.KeyPreview, Status: core.TokenStatus(r.Status), Name: r.Name,
		CreatedAt: fromMillis(r.CreatedAt), AccessedAt: fromMillis(r.AccessedAt), ExpiresAt: fromMillis(r.ExpiresAt),
		RemainQuota: r.RemainQuota, UnlimitedQuota: r.UnlimitedQuota, UsedQuota: r.UsedQuota, LimitModels: r.LimitModels,
		Models: splitList(r.Models), AllowIPs: ips, Group: r.Group, CrossGroupRetry: r.CrossGroupRetry, Rev: core.Revision(r.Rev)}
	t.Prepare()
	return t, nil
}

// splitList reads a comma list; names have no commas and no blanks around.
func splitList(text string) []string {
	var out []string
	for _, f := range strings.Split(text, ",") {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}

func checkList(field string, list []string) error {
	for _, s := range list {
		if err := checkIdentity(field, s, 255); err != nil {
			return err
		}
		if strings.Contains(s, ",") {
			return invalid(field, "%q: a name has no comma", s)
		}
	}
	return nil
}

func checkToken(t *core.Token) error {
	if err := checkText("name", t.Name, 191); err != nil {
		return err
	}
	if t.Group != "" {
		if err := checkIdentity("group", t.Group, 255); err != nil {
			return err
		}
	}
	if err := checkList("model_limits", t.Models); err != nil {
		return err
	}
	if t.Status != core.TokenEnabled && t.Status != core.TokenDisabled {
		return invalid("status", "only enabled and disabled are stored, not %d", t.Status)
	}
	return checkQuota("remain_quota", t.RemainQuota)
}

func (r *tokenRow) fill(t *core.Token) {
	r.Status, r.Name, r.ExpiresAt, r.UnlimitedQuota = int(t.Status), t.Name, millis(t.ExpiresAt), t.UnlimitedQuota
	r.LimitModels, r.Models, r.AllowIPs = t.LimitModels, strings.Join(t.Models, ","), core.FormatAllowIPs(t.AllowIPs)
	r.Group, r.CrossGroupRetry = t.Group, t.CrossGroupRetry
}

// previewKey shows first and last four characters of a key, and nothing of a
// short one.
func previewKey(key string) string {
	const stars = "**********"
	if len(key) < 16 {
		return stars
	}
	return key[:4] + stars + key[len(key)-4:]
}

func checkKey(key string) error {
	if len(key) < 8 || len(key) > 191 {
		return invalid("key", "an API key has 8 to 191 characters")
	}
	for _, c := range []byte(key) {
		if c <= ' ' || c > '~' {
			return invalid("key", "an API key has printable ASCII characters only")
		}
	}
	return nil
}

// CreateToken inserts a token with its balance and its key (with or without
// "sk-") and sets ID, KeyPreview and, if it is zero, CreatedAt.
func (tx *Tx) CreateToken(ctx context.Context, t *core.Token, key core.Secret) error {
	text := strings.TrimPrefix(key.Reveal(), "sk-")
	if err := checkKey(text); err != nil {
		return err
	}
	if err := checkToken(t); err != nil {
		return err
	}
	if err := tx.ownerExists(ctx, t.UserID); err != nil {
		return err
	}
	hashes := tx.s.keys.KeyHashes(text)
	var same []int64
	if err := tx.scanIDs(ctx, &same, "SELECT id FROM sluice_tokens WHERE key_hash IN (?)", bun.List(hashes)); err != nil {
		return err
	}
	taken := conflict("key", "this API key exists already")
	if len(same) > 0 {
		return taken
	}
	if t.CreatedAt.IsZero() {
		t.CreatedAt = tx.s.now()
	}
	row := &tokenRow{UserID: t.UserID, KeyHash: hashes[0], KeyID: tx.s.keys.keys[0].ID(), KeyPreview: previewKey(text),
		CreatedAt: millis(t.CreatedAt), RemainQuota: t.RemainQuota}
	row.fill(t)
	if _, err := tx.db.NewInsert().Model(row).Exec(ctx); err != nil {
		if duplicate(err) {
			return taken
		}
		return err
	}
	sealed, err := tx.s.keys.seal(text, tokensTable, "key", strconv.FormatInt(row.ID, 10))
	if err != nil {
		return err
	}
	if _, err := tx.db.ExecContext(ctx, "UPDATE sluice_tokens SET key_sealed = ? WHERE id = ?", sealed, row.ID); err != nil {
		return err
	}
	t.ID, t.KeyPreview = row.ID, row.KeyPreview
	tx.noteID(core.KindToken, row.ID, core.OpPut).with("created", true)
	return nil
}

// ownerExists locks the row of a token's owner, so that it is neither deleted
// meanwhile nor given more tokens than were counted.
func (tx *Tx) ownerExists(ctx context.Context, userID int64) error {
	var id int64
	err := tx.db.QueryRowContext(ctx, "SELECT id FROM sluice_users WHERE id = ?"+tx.s.main.locking, userID).Scan(&id)
	return missing(err, "user")
}

// CountTokens is the number of a user's tokens; it holds until the end of the
// transaction.
func (tx *Tx) CountTokens(ctx context.Context, userID int64) (n int64, err error) {
	if err := tx.ownerExists(ctx, userID); err != nil {
		return 0, err
	}
	err = tx.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sluice_tokens WHERE user_id = ?", userID).Scan(&n)
	return n, err
}

// TokenForUpdate reads a user's token and keeps it locked until the end of
// the transaction. A userID of 0 stands for any owner.
func (tx *Tx) TokenForUpdate(ctx context.Context, userID, id int64) (*core.Token, error) {
	row := new(tokenRow)
	if err := tx.lockToken(ctx, row, userID, id); err != nil {
		return nil, err
	}
	return row.token()
}

func (tx *Tx) lockToken(ctx context.Context, row *tokenRow, userID, id int64) error {
	if userID == 0 {
		return tx.lock(ctx, row, "token", "id = ?", id)
	}
	return tx.lock(ctx, row, "token", "id = ? AND user_id = ?", id, userID)
}

// SaveToken writes status, name, expiry, unlimited, model limits, addresses,
// group and retry across groups. The row must belong to t.UserID.
func (tx *Tx) SaveToken(ctx context.Context, t *core.Token) error {
	if err := checkToken(t); err != nil {
		return err
	}
	before := new(tokenRow)
	if err := tx.lockToken(ctx, before, t.UserID, t.ID); err != nil {
		return err
	}
	after := *before
	after.fill(t)
	_, err := tx.save(ctx, core.KindToken, strconv.FormatInt(t.ID, 10), before, &after)
	return err
}

// SetTokenQuota replaces a token's balance.
func (tx *Tx) SetTokenQuota(ctx context.Context, id, remain int64) error {
	if err := checkQuota("remain_quota", remain); err != nil {
		return err
	}
	row := new(tokenRow)
	if err := tx.lockToken(ctx, row, 0, id); err != nil {
		return err
	}
	if row.RemainQuota == remain {
		return nil
	}
	if err := mustMatch(tx.db.ExecContext(ctx, "UPDATE sluice_tokens SET remain_quota = ? WHERE id = ?", remain, id)); err != nil {
		return err
	}
	c := tx.noteID(core.KindToken, id, core.OpPut, "remain_quota")
	c.with("quota_before", row.RemainQuota)
	c.with("quota_after", remain)
	return nil
}

// DeleteToken removes a user's token. A userID of 0 stands for any owner.
func (tx *Tx) DeleteToken(ctx context.Context, userID, id int64) error {
	if err := tx.lockToken(ctx, new(tokenRow), userID, id); err != nil {
		return err
	}
	if _, err := tx.db.ExecContext(ctx, "DELETE FROM sluice_tokens WHERE id = ?", id); err != nil {
		return err
	}
	tx.noteID(core.KindToken, id, core.OpDelete)
	return nil
}

// Token reads a user's token. A userID of 0 stands for any owner.
func (s *Store) Token(ctx context.Context, userID, id int64) (*core.Token, error) {
	row := new(tokenRow)
	q := s.main.read.NewSelect().Model(row).Where("id = ?", id)
	if userID != 0 {
		q = q.Where("user_id = ?", userID)
	}
	if err := q.Scan(ctx); err != nil {
		return nil, s.wrap("token", missing(err, "token"))
	}
	t, err := row.token()
	return t, s.wrap("token", err)
}

// TokenFilter selects tokens; zero values select all.
type TokenFilter struct {
	Keyword string // part of the name
	KeyPart string // a whole key, or the beginning of one
}

// Tokens lists a user's tokens, newest first.
func (s *Store) Tokens(ctx context.Context, userID int64, p core.PageQuery, f TokenFilter) (core.Page[*core.Token], error) {
	var page core.Page[*core.Token]
	var rows []*tokenRow
	q := s.main.read.NewSelect().Model(&rows).ExcludeColumn("key_hash", "key_id", "key_sealed").Where("user_id = ?", userID)
	if f.Keyword != "" {
		like, err := pattern(f.Keyword)
		if err != nil {
			return page, err
		}
		q = q.WhereGroup(" AND ", func(q *bun.SelectQuery) *bun.SelectQuery { return contains(q, like, "name") })
	}
	if key := strings.TrimPrefix(f.KeyPart, "sk-"); key != "" {
		if len(key) > 191 {
			return page, invalid("token", "at most 191 characters can be searched for")
		}
		q = q.Where("(key_hash IN (?) OR key_preview LIKE ? ESCAPE '!')", bun.List(s.keys.KeyHashes(key)), escapeLike(key[:min(len(key), 4)])+"%")
	}
	total, err := window(q.OrderExpr("id DESC"), p).ScanAndCount(ctx)
	if err != nil {
		return page, s.wrap("tokens", err)
	}
	page.Total, page.Items = int64(total), make([]*core.Token, len(rows))
	for i, r := range rows {
		if page.Items[i], err = r.token(); err != nil {
			return core.Page[*core.Token]{}, s.wrap("tokens", err)
		}
	}
	return page, nil
}

// CountTokens is the number of a user's tokens.
func (s *Store) CountTokens(ctx context.Context, userID int64) (n int64, err error) {
	err = s.main.read.QueryRowContext(ctx, "SELECT COUNT(*) FROM sluice_tokens WHERE user_id = ?", userID).Scan(&n)
	return n, s.wrap("count tokens", err)
}

// RevealTokenKey opens the key of a user's token, without "sk-".
func (s *Store) RevealTokenKey(ctx context.Context, userID, id int64) (core.Secret, error) {
	var sealed []byte
	err := s.main.read.QueryRowContext(ctx, "SELECT key_sealed FROM sluice_tokens WHERE id = ? AND user_id = ?", id, userID).Scan(&sealed)
	if err != nil {
		return "", s.wrap("reveal token", missing(err, "token"))
	}
	key, err := s.keys.open(sealed, tokensTable, "key", strconv.FormatInt(id, 10))
	return core.Secret(key), s.wrap("reveal token", err)
}

// TokenBalance reads what a token has left and has used, and when it was
// used last, as the ledger wrote them.
func (s *Store) TokenBalance(ctx context.Context, id int64) (remain, used int64, err error) {
	err = s.main.read.QueryRowContext(ctx, "SELECT remain_quota, used_quota FROM sluice_tokens WHERE id = ?", id).Scan(&remain, &used)
	return remain, used, s.wrap("token balance", missing(err, "token"))
}

// credentialColumns are read by CredentialByHash in this order; the password
// hash is not among them.
const credentialColumns = `t.id, t.user_id, t.key_hash, t.key_preview, t.status, t.name, t.created_at, t.accessed_at, t.expires_at, t.remain_quota,
 t.unlimited_quota, t.used_quota, t.limit_models, t.model_list, t.allow_ips, t.token_group, t.cross_group_retry, t.rev,
 u.id, u.username, u.display_name, u.role, u.status, u.email, u.user_group, u.quota, u.used_quota, u.request_count, u.setting_sealed, u.remark,
 u.session_epoch, u.created_at, u.last_login_at, u.rev`

// CredentialByHash finds a token and its owner by the hashes of its key
// (Keyring.KeyHashes), with the revision that they were read at: one statement,
// one state. For an unknown key it is CodeNotFound with the revision.
func (s *Store) CredentialByHash(ctx context.Context, hashes [][]byte) (core.Credential, core.Revision, error) {
	const op = "credential"
	rows, err := s.main.read.QueryContext(ctx, "SELECT r.rev, "+credentialColumns+` FROM sluice_sync_rev r
 LEFT JOIN sluice_tokens t ON t.key_hash IN (?) LEFT JOIN sluice_users u ON u.id = t.user_id WHERE r.id = 1`, bun.List(hashes))
	if err != nil {
		return core.Credential{}, 0, s.wrap(op, err)
	}
	defer func() { _ = rows.Close() }()
	var rev int64
	for rows.Next() {
		c, hash, err := s.scanCredential(rows, &rev)
		if err != nil {
			return core.Credential{}, 0, s.wrap(op, err)
		}
		if c.User != nil && anyEqual(hashes, hash) {
			return c, core.Revision(rev), nil
		}
	}
	if err := rows.Err(); err != nil {
		return core.Credential{}, 0, s.wrap(op, err)
	}
	return core.Credential{}, core.Revision(rev), notFound("token")
}

func (s *Store) scanCredential(rows *sql.Rows, rev *int64) (core.Credential, []byte, error) {
	var tokenID, userID sql.Null[int64]
	// A row without token or user has NULL in all their columns.
	n := func(v *int64) any { return &nullable[int64]{v} }
	i := func(v *int) any { return &nullable[int]{v} }
	b := func(v *bool) any { return &nullable[bool]{v} }
	x := func(v *string) any { return &nullable[string]{v} }
	var t tokenRow
	var u userRow
	err := rows.Scan(rev, &tokenID, n(&t.UserID), &t.KeyHash, x(&t.KeyPreview), i(&t.Status), x(&t.Name), n(&t.CreatedAt), n(&t.AccessedAt), n(&t.ExpiresAt), n(&t.RemainQuota),
		b(&t.UnlimitedQuota), n(&t.UsedQuota), b(&t.LimitModels), x(&t.Models), x(&t.AllowIPs), x(&t.Group), b(&t.CrossGroupRetry), n(&t.Rev),
		&userID, x(&u.Username), x(&u.DisplayName), i(&u.Role), i(&u.Status), x(&u.Email), x(&u.Group), n(&u.Quota), n(&u.UsedQuota), n(&u.RequestCount), &u.Setting, x(&u.Remark),
		n(&u.SessionEpoch), n(&u.CreatedAt), n(&u.LastLoginAt), n(&u.Rev))
	if err != nil || !tokenID.Valid || !userID.Valid {
		return core.Credential{}, nil, err
	}
	t.ID, u.ID = tokenID.V, userID.V
	token, err := t.token()
	if err != nil {
		return core.Credential{}, nil, err
	}
	user, err := s.user(&u)
	return core.Credential{Token: token, User: user}, t.KeyHash, err
}

// nullable scans into a plain value and leaves it alone at NULL.
type nullable[T any] struct{ to *T }

// Scan implements sql.Scanner.
func (n *nullable[T]) Scan(v any) error {
	var x sql.Null[T]
	if err := x.Scan(v); err != nil {
		return err
	}
	if x.Valid {
		*n.to = x.V
	}
	return nil
}
