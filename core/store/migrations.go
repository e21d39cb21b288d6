package store

import "strings"

// migration is one numbered step: a single statement and the look that tells
// whether it was done already, by whoever. Steps are never changed, removed or
// given another number once released; new columns have a default or may be NULL, so
// that older nodes go on.
type migration struct {
	num  int
	name string
	done look
	ddl  string // with {types} of the dialects
}

// look asks the catalogue of the database.
type look struct {
	table, index, row string
}

func table(num int, name, columns string) migration {
	return migration{num: num, name: "create " + name, done: look{table: name}, ddl: "CREATE TABLE " + name + " (" + columns + "){tail}"}
}

func index(num int, table, name, columns string) migration {
	return migration{num: num, name: "index " + name, done: look{table: table, index: name}, ddl: "CREATE INDEX " + name + " ON " + table + " (" + columns + ")"}
}

func unique(num int, table, name, columns string) migration {
	m := index(num, table, name, columns)
	m.ddl = strings.Replace(m.ddl, "CREATE INDEX", "CREATE UNIQUE INDEX", 1)
	return m
}

// mainMigrations make the main database. Every text column of MySQL is
// utf8mb4_bin: names, codes and models are compared byte by byte.
var mainMigrations = []migration{
	table(1, "sluice_sync_rev", "id {int} NOT NULL PRIMARY KEY, epoch {text16} NOT NULL, rev {int} NOT NULL"),
	{num: 2, name: "first revision", done: look{table: "sluice_sync_rev", row: "id = 1"}, ddl: "INSERT INTO sluice_sync_rev (id, epoch, rev) VALUES (1, '{epoch}', 0)"},
	table(3, "sluice_sync_log", "rev {int} NOT NULL PRIMARY KEY, kind {text16} NOT NULL, entity_id {text255} NOT NULL, op {text16} NOT NULL, created_at {int} NOT NULL, actor {text191} NOT NULL"),
	table(4, "sluice_audit_logs", `id {serial}, created_at {int} NOT NULL, user_id {int} NOT NULL, username {text191} NOT NULL, ip {text64} NOT NULL, request_id {text64} NOT NULL,
 route {text255} NOT NULL, kind {text16} NOT NULL, entity_id {text255} NOT NULL, op {text16} NOT NULL, detail {longtext} NOT NULL, rev {int} NOT NULL`),
	index(5, "sluice_audit_logs", "sluice_audit_created", "created_at, id"),
	table(6, "sluice_canary", "key_id {text16} NOT NULL PRIMARY KEY, sealed {blob} NOT NULL, created_at {int} NOT NULL"),
	table(7, "sluice_users", `id {serial}, username {text191} NOT NULL, password_hash {text255} NOT NULL, access_token_hash {hash} NULL, display_name {text191} NOT NULL,
 role {int} NOT NULL, status {int} NOT NULL, email {text191} NOT NULL, user_group {text255} NOT NULL, quota {int} NOT NULL DEFAULT 0, used_quota {int} NOT NULL DEFAULT 0,
 request_count {int} NOT NULL DEFAULT 0, setting_sealed {blob} NULL, remark {text255} NOT NULL, session_epoch {int} NOT NULL DEFAULT 0, created_at {int} NOT NULL,
 last_login_at {int} NOT NULL DEFAULT 0, rev {int} NOT NULL DEFAULT 0`),
	unique(8, "sluice_users", "sluice_users_username", "username"),
	unique(9, "sluice_users", "sluice_users_access", "access_token_hash"),
	index(10, "sluice_users", "sluice_users_email", "email"),
	index(11, "sluice_users", "sluice_users_role", "role"),
	table(12, "sluice_sessions", `id_hash {hash} NOT NULL PRIMARY KEY, user_id {int} NOT NULL, epoch {int} NOT NULL, created_at {int} NOT NULL, expires_at {int} NOT NULL,
 last_seen_at {int} NOT NULL, ip {text64} NOT NULL, user_agent {text255} NOT NULL`),
	index(13, "sluice_sessions", "sluice_sessions_user", "user_id, created_at"),
	table(14, "sluice_tokens", `id {serial}, user_id {int} NOT NULL, key_hash {hash} NOT NULL, key_id {text16} NOT NULL, key_sealed {blob} NULL, key_preview {text64} NOT NULL,
 status {int} NOT NULL, name {text191} NOT NULL, created_at {int} NOT NULL, accessed_at {int} NOT NULL DEFAULT 0, expires_at {int} NOT NULL DEFAULT 0,
 remain_quota {int} NOT NULL DEFAULT 0, unlimited_quota {bool} NOT NULL, used_quota {int} NOT NULL DEFAULT 0, limit_models {bool} NOT NULL, model_list {longtext} NOT NULL,
 allow_ips {longtext} NOT NULL, token_group {text255} NOT NULL, cross_group_retry {bool} NOT NULL, rev {int} NOT NULL DEFAULT 0`),
	unique(15, "sluice_tokens", "sluice_tokens_key", "key_hash"),
	index(16, "sluice_tokens", "sluice_tokens_user", "user_id, id"),
	table(17, "sluice_channels", `id {serial}, type {int} NOT NULL, key_sealed {blob} NULL, name {text191} NOT NULL, status {int} NOT NULL, weight {int} NOT NULL,
 priority {int} NOT NULL, base_url {text1024} NOT NULL, organization {text255} NOT NULL, test_model {text255} NOT NULL, other {longtext} NOT NULL, model_list {longtext} NOT NULL,
 group_list {longtext} NOT NULL, model_mapping {longtext} NOT NULL, status_code_mapping {longtext} NOT NULL, param_override_sealed {blob} NULL,
 header_override_sealed {blob} NULL, setting_sealed {blob} NULL, settings_sealed {blob} NULL, tag {text191} NOT NULL, remark {text255} NOT NULL, auto_ban {bool} NOT NULL,
 balance {int} NOT NULL DEFAULT 0, balance_at {int} NOT NULL DEFAULT 0, used_quota {int} NOT NULL DEFAULT 0, response_time {int} NOT NULL DEFAULT 0,
 tested_at {int} NOT NULL DEFAULT 0, created_at {int} NOT NULL, other_info {longtext} NOT NULL, rev {int} NOT NULL DEFAULT 0`),
	index(18, "sluice_channels", "sluice_channels_tag", "tag"),
	table(19, "sluice_groups", `name {text255} NOT NULL PRIMARY KEY, ratio {int} NOT NULL, has_ratio {bool} NOT NULL, usable {bool} NOT NULL, description {text1024} NOT NULL,
 ratios {longtext} NOT NULL, rev {int} NOT NULL DEFAULT 0`),
	table(20, "sluice_prices", `model {text255} NOT NULL PRIMARY KEY, ratio {int} NULL, completion {int} NULL, cache_read {int} NULL, cache_write {int} NULL, image {int} NULL, audio {int} NULL,
 audio_completion {int} NULL, per_call {int} NULL, audio_input_usd {int} NULL, rev {int} NOT NULL DEFAULT 0`),
	table(21, "sluice_options", "name {text191} NOT NULL PRIMARY KEY, value {longtext} NOT NULL, value_sealed {blob} NULL, rev {int} NOT NULL DEFAULT 0"),
	table(22, "sluice_leases", `id {text64} NOT NULL PRIMARY KEY, node {text64} NOT NULL, boot {text64} NOT NULL, request_id {text64} NOT NULL, user_id {int} NOT NULL,
 token_id {int} NOT NULL, token_charged {bool} NOT NULL, channel_id {int} NOT NULL, granted {int} NOT NULL, spent {int} NOT NULL, state {text16} NOT NULL,
 model {text255} NOT NULL, detail {longtext} NOT NULL, created_at {int} NOT NULL`),
	index(23, "sluice_leases", "sluice_leases_state", "state, created_at"),
	table(24, "sluice_nodes", `id {text64} NOT NULL PRIMARY KEY, boot {text64} NOT NULL, name {text191} NOT NULL, role {text16} NOT NULL, version {text64} NOT NULL,
 revision {int} NOT NULL, started_at {int} NOT NULL, seen_at {int} NOT NULL`),
}

// logMigrations make the log database, which may be the main one.
var logMigrations = []migration{
	table(1, "sluice_usage_logs", `id {serial}, created_at {int} NOT NULL, type {int} NOT NULL, user_id {int} NOT NULL, username {text191} NOT NULL, token_id {int} NOT NULL,
 token_name {text191} NOT NULL, channel_id {int} NOT NULL, model {text255} NOT NULL, log_group {text255} NOT NULL, quota {int} NOT NULL, prompt_tokens {int} NOT NULL,
 completion_tokens {int} NOT NULL, use_time {int} NOT NULL, is_stream {bool} NOT NULL, ip {text64} NOT NULL, request_id {text64} NOT NULL, content {longtext} NOT NULL,
 other {longtext} NOT NULL`),
	index(2, "sluice_usage_logs", "sluice_logs_user", "user_id, id"),
	index(3, "sluice_usage_logs", "sluice_logs_created", "created_at, id"),
	index(4, "sluice_usage_logs", "sluice_logs_token", "token_id, id"),
	index(5, "sluice_usage_logs", "sluice_logs_model", "model, id"),
	index(6, "sluice_usage_logs", "sluice_logs_channel", "channel_id, id"),
	index(7, "sluice_usage_logs", "sluice_logs_request", "request_id"),
}

// bookkeeping are the tables that the migrations themselves need; each is made
// if it is missing, at every start.
var bookkeeping = []migration{
	table(0, "sluice_migrations", "part {text16} NOT NULL, num {int} NOT NULL, name {text191} NOT NULL, applied_at {int} NOT NULL, PRIMARY KEY (part, num)"),
	table(0, "sluice_migration_lock", "id {int} NOT NULL PRIMARY KEY, holder {text64} NOT NULL, expires_at {int} NOT NULL"),
	{name: "lock row", done: look{table: "sluice_migration_lock", row: "id = 1"}, ddl: "INSERT INTO sluice_migration_lock (id, holder, expires_at) VALUES (1, '', 0)"},
}

var mysqlTypes = strings.NewReplacer(
	"{int}", "BIGINT", "{serial}", "BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", "{bool}", "TINYINT(1)",
	"{text16}", "VARCHAR(16)", "{text64}", "VARCHAR(64)", "{text191}", "VARCHAR(191)", "{text255}", "VARCHAR(255)", "{text1024}", "VARCHAR(1024)",
	"{longtext}", "LONGTEXT", "{hash}", "VARBINARY(32)", "{blob}", "LONGBLOB", "{tail}", " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
)

// On SQLite an id is never given twice (AUTOINCREMENT): sealed texts are bound to
// ids, and the logs name them.
var sqliteTypes = strings.NewReplacer(
	"{int}", "INTEGER", "{serial}", "INTEGER PRIMARY KEY AUTOINCREMENT", "{bool}", "INTEGER",
	"{text16}", "TEXT", "{text64}", "TEXT", "{text191}", "TEXT", "{text255}", "TEXT", "{text1024}", "TEXT",
	"{longtext}", "TEXT", "{hash}", "BLOB", "{blob}", "BLOB", "{tail}", "",
)

func (m migration) statement(mysql bool) string {
	types := sqliteTypes
	if mysql {
		types = mysqlTypes
	}
	return strings.ReplaceAll(types.Replace(m.ddl), "{epoch}", randomText(16))
}
