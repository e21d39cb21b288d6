package config

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// newAPIName is a variable of New API that has a meaning here. convert turns its
// value into ours; now is the key's value so far. An empty result with ok false
// leaves the key alone.
type newAPIName struct {
	name, key string
	convert   func(value, now string) (leaf string, ok bool, err error)
}

// newAPINames is the table of New API's variables that this version honours, in
// the order in which they take effect. Units are New API's.
func newAPINames() []newAPIName {
	return []newAPIName{
		{"NODE_TYPE", "node.role", nodeType},
		{"NODE_NAME", "node.name", asIs},
		{"VERSION", "node.version", asIs},
		{"FRONTEND_BASE_URL", "node.frontend_base_url", asIs},
		{"PORT", "server.listen", port},
		{"TRUSTED_PROXIES", "server.trusted_proxies", asIs},
		{"SHUTDOWN_TIMEOUT_SECONDS", "server.shutdown_timeout", unit("seconds", "s")},
		{"MAX_REQUEST_BODY_MB", "server.max_request_body", unit("megabytes", "MB")},
		{"ANONYMOUS_REQUEST_BODY_LIMIT_KB", "server.anonymous_body", unit("kilobytes", "KB")},
		{"SQL_DSN", "database.dsn", asIs},
		{"LOG_SQL_DSN", "database.log_dsn", asIs},
		{"SQLITE_PATH", "database.sqlite_path", asIs},
		{"SQL_MAX_OPEN_CONNS", "database.max_open", asIs},
		{"SQL_MAX_IDLE_CONNS", "database.max_idle", asIs},
		{"SQL_MAX_LIFETIME", "database.max_lifetime", unit("seconds", "s")},
		{"SQL_SLOW_THRESHOLD_MS", "database.slow_threshold", unit("milliseconds", "ms")},
		{"SESSION_SECRET", "secrets.session", asIs},
		{"CRYPTO_SECRET", "secrets.crypto", asIs},
		{"CRYPTO_SECRET_OLD", "secrets.crypto_old", asIs},
		{"SESSION_COOKIE_SECURE", "session.cookie_secure", asIs},
		{"SESSION_COOKIE_TRUSTED_URL", "session.trusted_urls", asIs},
		{"USER_SESSION_ACTIVE_LIMIT", "session.active_limit", asIs},
		{"SYNC_FREQUENCY", "sync.frequency", unit("seconds", "s")},
		{"BATCH_UPDATE_INTERVAL", "billing.log_flush_interval", unit("seconds", "s")},
		{"RELAY_TIMEOUT", "relay.timeout", unit("seconds", "s")},
		{"STREAMING_TIMEOUT", "relay.idle_timeout", unit("seconds", "s")},
		{"STREAM_SCANNER_MAX_BUFFER_MB", "relay.max_line", unit("megabytes", "MB")},
		{"RELAY_IDLE_CONN_TIMEOUT", "relay.idle_conn_timeout", unit("seconds", "s")},
		{"RELAY_MAX_IDLE_CONNS", "relay.max_idle_conns", asIs},
		{"RELAY_MAX_IDLE_CONNS_PER_HOST", "relay.max_idle_conns_per_host", asIs},
		{"FORCE_STREAM_OPTION", "relay.force_stream_option", asIs},
		{"ERROR_LOG_ENABLED", "relay.error_log", asIs},
		{"TLS_INSECURE_SKIP_VERIFY", "relay.tls_insecure_skip_verify", asIs},
		{"GLOBAL_API_RATE_LIMIT_ENABLE", "rate_limit.global_api.enabled", asIs},
		{"GLOBAL_API_RATE_LIMIT", "rate_limit.global_api.limit", asIs},
		{"GLOBAL_API_RATE_LIMIT_DURATION", "rate_limit.global_api.window", unit("seconds", "s")},
		{"GLOBAL_WEB_RATE_LIMIT_ENABLE", "rate_limit.global_web.enabled", asIs},
		{"GLOBAL_WEB_RATE_LIMIT", "rate_limit.global_web.limit", asIs},
		{"GLOBAL_WEB_RATE_LIMIT_DURATION", "rate_limit.global_web.window", unit("seconds", "s")},
		{"CRITICAL_RATE_LIMIT_ENABLE", "rate_limit.critical.enabled", asIs},
		{"CRITICAL_RATE_LIMIT", "rate_limit.critical.limit", asIs},
		{"CRITICAL_RATE_LIMIT_DURATION", "rate_limit.critical.window", unit("seconds", "s")},
		{"SEARCH_RATE_LIMIT_ENABLE", "rate_limit.search.enabled", asIs},
		{"SEARCH_RATE_LIMIT", "rate_limit.search.limit", asIs},
		{"SEARCH_RATE_LIMIT_DURATION", "rate_limit.search.window", unit("seconds", "s")},
		{"TZ", "log.timezone", asIs},
		{"DEBUG", "log.level", debug},
		{"ENABLE_PPROF", "pprof.listen", pprof},
	}
}

// noEffect lists New API's variables that are recognised and do nothing here,
// with the reason. HOSTNAME and GIN_MODE are left out: images set them.
func noEffect() map[string]string {
	redis := "Redis is not used by this version"
	tasks := "asynchronous tasks are not part of this version"
	media := "media are passed through and never fetched by the gateway"
	out := map[string]string{
		"BATCH_UPDATE_ENABLED":        "every settlement is in the database before the answer ends; only usage log rows are batched (BATCH_UPDATE_INTERVAL)",
		"MEMORY_CACHE_ENABLED":        "routing state is always kept in memory",
		"CountToken":                  "the prompt is always estimated for the reservation",
		"AZURE_DEFAULT_API_VERSION":   "set the API version of the channel",
		"GEMINI_SAFETY_SETTING":       "requests pass unchanged; use the channel's param override",
		"COHERE_SAFETY_SETTING":       "requests pass unchanged; use the channel's param override",
		"GENERATE_DEFAULT_TOKEN":      "registration is not part of this version",
		"GEMINI_VISION_MAX_IMAGE_NUM": "requests pass unchanged",
		"LOG_SQL_CLICKHOUSE_TTL_DAYS": "ClickHouse is not supported",
		"POLLING_INTERVAL":            "there are no polling loops in this version",
		"TRUSTED_REDIRECT_DOMAINS":    "payments are not part of this version",
	}
	for reason, names := range map[string]string{
		redis: "REDIS_CONN_STRING REDIS_PASSWORD REDIS_MASTER_NAME REDIS_CONN_POOL_SIZE REDIS_POOL_SIZE",
		tasks: "UPDATE_TASK TASK_QUERY_LIMIT TASK_TIMEOUT_MINUTES TASK_PRICE_PATCH DIFY_DEBUG",
		media: "GET_MEDIA_TOKEN GET_MEDIA_TOKEN_NOT_STREAM MAX_FILE_DOWNLOAD_MB",
		"scheduled channel jobs are not part of this version": "CHANNEL_UPDATE_FREQUENCY CHANNEL_TEST_FREQUENCY CHANNEL_TEST_ENABLED" +
			" CHANNEL_UPSTREAM_MODEL_UPDATE_TASK_ENABLED CHANNEL_UPSTREAM_MODEL_UPDATE_TASK_INTERVAL_MINUTES",
		"this version has no such session limit": "USER_SESSION_ISSUANCE_LIMIT USER_SESSION_ISSUANCE_WINDOW_SECONDS" +
			" USER_SESSION_REVOKED_RETENTION_DAYS USER_SESSION_HOURLY_ALERT_THRESHOLD",
		"mail and notifications are not part of this version": "NOTIFY_LIMIT_COUNT NOTIFICATION_LIMIT_DURATION_MINUTE SMTP_STARTTLS_ENABLE" +
			" SMTP_STARTTLS_ENABLED SMTP_INSECURE_SKIP_VERIFY SMTP_TLS_INSECURE_SKIP_VERIFY",
		"the model list is not fetched from elsewhere": "SYNC_UPSTREAM_BASE SYNC_HTTP_TIMEOUT_SECONDS SYNC_HTTP_RETRY SYNC_HTTP_MAX_MB",
		"subscriptions are not part of this version": "SUBSCRIPTION_PLAN_CACHE_TTL SUBSCRIPTION_PLAN_CACHE_CAP" +
			" SUBSCRIPTION_PLAN_INFO_CACHE_TTL SUBSCRIPTION_PLAN_INFO_CACHE_CAP",
		"external logins are not part of this version": "LINUX_DO_TOKEN_ENDPOINT LINUX_DO_USER_ENDPOINT",
		"profiles are not pushed; see pprof.listen": "PYROSCOPE_URL PYROSCOPE_APP_NAME PYROSCOPE_BASIC_AUTH_USER PYROSCOPE_BASIC_AUTH_PASSWORD" +
			" PYROSCOPE_MUTEX_RATE PYROSCOPE_BLOCK_RATE",
		"there are no web pages to inject it into": "UMAMI_WEBSITE_ID UMAMI_SCRIPT_URL GOOGLE_ANALYTICS_ID",
	} {
		for _, name := range strings.Fields(names) {
			out[name] = reason
		}
	}
	return out
}

func asIs(value, _ string) (string, bool, error) { return value, true, nil }

// unit appends the unit that New API's number has.
func unit(words, suffix string) func(string, string) (string, bool, error) {
	return func(value, _ string) (string, bool, error) {
		if _, err := strconv.ParseInt(value, 10, 64); err != nil {
			return "", false, fmt.Errorf("%s is not a whole number of %s", quote(value), words)
		}
		return value + suffix, true, nil
	}
}

// port replaces the port and keeps the host.
func port(value, now string) (string, bool, error) {
	if _, err := strconv.ParseUint(value, 10, 16); err != nil {
		return "", false, fmt.Errorf("%s is not a port number", quote(value))
	}
	host, _, err := net.SplitHostPort(now)
	if err != nil {
		host = ""
	}
	return net.JoinHostPort(host, value), true, nil
}

func nodeType(value, _ string) (string, bool, error) {
	switch value {
	case "master", "slave", "auto":
		return value, true, nil
	}
	return "", false, fmt.Errorf("%s is not one of master, slave, auto", quote(value))
}

func truth(value string) (bool, error) {
	b, err := strconv.ParseBool(value)
	if err != nil {
		return false, errors.New(quote(value) + " is not true or false")
	}
	return b, nil
}

func debug(value, _ string) (string, bool, error) {
	on, err := truth(value)
	return "debug", on, err
}

// pprof listens on New API's port, but on the loopback address only.
func pprof(value, _ string) (string, bool, error) {
	on, err := truth(value)
	if err != nil || !on {
		return "", false, err
	}
	return "127.0.0.1:8005", true, nil
}
