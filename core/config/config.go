package config

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

// Config is the configuration of a node. It is immutable: share the pointer,
// never write to it or to its slices. Tests start from Default and change their
// own copy before sharing it.
//
// Tags: key is the name in the YAML file (and, in capitals with __ for the dot,
// of the variable); reload:"yes" means that a running node takes a new value;
// kind:"size" is a number of bytes that may be written with KB, MB, GB; min, max
// and oneof are rules. configs/sluice.yaml documents every key and a test
// compares the two.
type Config struct {
	Server    Server    `key:"server"`
	Database  Database  `key:"database"`
	Secrets   Secrets   `key:"secrets"`
	Node      Node      `key:"node"`
	Relay     Relay     `key:"relay"`
	Billing   Billing   `key:"billing"`
	Sync      Sync      `key:"sync"`
	Session   Session   `key:"session"`
	RateLimit RateLimit `key:"rate_limit"`
	Log       Log       `key:"log"`
	Metrics   Metrics   `key:"metrics"`
	Pprof     Pprof     `key:"pprof"`

	origins map[string]Origin
	notices []Notice
}

// Server is the public listener.
type Server struct {
	Listen            string         `key:"listen"`                                              // host:port
	MaxRequestBody    int64          `key:"max_request_body" kind:"size" min:"1KB" reload:"yes"` // decompressed bytes; over it 413
	AnonymousBody     int64          `key:"anonymous_body" kind:"size" min:"1KB" reload:"yes"`   // for management calls without a login
	BodyBudget        int64          `key:"body_budget" kind:"size" min:"1MB" reload:"yes"`      // over all bodies in memory; over it 503
	TrustedProxies    []netip.Prefix `key:"trusted_proxies" reload:"yes"`                        // whose X-Forwarded-For counts; empty = nobody's
	ShutdownTimeout   time.Duration  `key:"shutdown_timeout" min:"0s" max:"24h" reload:"yes"`    // how long a drain waits
	ReadHeaderTimeout time.Duration  `key:"read_header_timeout" min:"100ms" max:"10m"`           // from accept to the end of the header
	IdleTimeout       time.Duration  `key:"idle_timeout" min:"1s" max:"24h"`                     // of a kept-alive connection
	MaxHeaderBytes    int            `key:"max_header_bytes" kind:"size" min:"4KB" max:"16MB"`   // request line and header
	CORSOrigins       []string       `key:"cors_origins" reload:"yes"`                           // for relay routes; "*" = any, without credentials
}

// Database is where the truth is kept. DSN is normalised: "" is SQLite at
// SQLitePath, anything else a complete go-sql-driver DSN.
type Database struct {
	DSN           core.Secret   `key:"dsn"`
	LogDSN        core.Secret   `key:"log_dsn"`                      // "" = logs live in the main database
	SQLitePath    string        `key:"sqlite_path"`                  // after Load never empty
	MaxOpen       int           `key:"max_open" min:"1" max:"10000"` // connections, for each of the two databases
	MaxIdle       int           `key:"max_idle" min:"0" max:"10000"`
	MaxLifetime   time.Duration `key:"max_lifetime" min:"0s" max:"24h"`
	SlowThreshold time.Duration `key:"slow_threshold" min:"0s" max:"1h"` // 0 = slow queries are not logged
}

// MySQL reports whether the main database is a server and not a file.
func (d Database) MySQL() bool { return d.DSN != "" }

// Secrets are equal on all nodes of a cluster. After Load they may be empty on
// SQLite; WithStoredSecrets fills them.
type Secrets struct {
	Session   core.Secret   `key:"session"`    // signs the session cookie
	Crypto    core.Secret   `key:"crypto"`     // seals channel keys, hashes API keys
	CryptoOld []core.Secret `key:"crypto_old"` // earlier Crypto values that still open old rows
}

// Node is this process among others.
type Node struct {
	Name            string        `key:"name"` // after Load never empty
	Role            core.NodeRole `key:"role" oneof:"master|slave|auto"`
	DataDir         string        `key:"data_dir"`
	FrontendBaseURL string        `key:"frontend_base_url" reload:"yes"` // public base of links, without a slash at its end
	Version         string        `key:"version"`                        // "" = the build's
}

// Relay is how a request goes upstream and how the answer comes back.
type Relay struct {
	ConnectTimeout        time.Duration  `key:"connect_timeout" min:"100ms" max:"10m"`
	FirstByteTimeout      time.Duration  `key:"first_byte_timeout" min:"0s" reload:"yes"` // 0 = no limit
	IdleTimeout           time.Duration  `key:"idle_timeout" min:"0s" reload:"yes"`       // longest silence in an answer; 0 = no limit
	Timeout               time.Duration  `key:"timeout" min:"0s" reload:"yes"`            // of a whole exchange; 0 = no limit
	WriteTimeout          time.Duration  `key:"write_timeout" min:"1s" reload:"yes"`      // of one write to the client
	PingInterval          time.Duration  `key:"ping_interval" min:"0s" reload:"yes"`      // ": ping" in silent event streams; 0 = off
	PingBeforeStatus      bool           `key:"ping_before_status" reload:"yes"`          // ping while upstream has not answered: fixes status 200
	MaxLine               int64          `key:"max_line" kind:"size" min:"64KB" reload:"yes"`
	RetryMaxWait          time.Duration  `key:"retry_max_wait" min:"0s" max:"10m" reload:"yes"` // longest Retry-After that is waited for
	ErrorLog              bool           `key:"error_log" reload:"yes"`                         // failed requests get a log row
	ForceStreamOption     bool           `key:"force_stream_option" reload:"yes"`               // ask upstream for usage in streams
	UpstreamNetworks      []netip.Prefix `key:"upstream_networks"`                              // empty = any but link-local and metadata
	UseEnvProxy           bool           `key:"use_env_proxy"`
	TLSInsecureSkipVerify bool           `key:"tls_insecure_skip_verify"`
	MaxIdleConns          int            `key:"max_idle_conns" min:"0" max:"1000000"`
	MaxIdleConnsPerHost   int            `key:"max_idle_conns_per_host" min:"1" max:"1000000"`
	IdleConnTimeout       time.Duration  `key:"idle_conn_timeout" min:"0s" max:"24h"`
	Breaker               Breaker        `key:"breaker"`
}

// Breaker keeps requests from a channel that does not answer.
type Breaker struct {
	Failures int           `key:"failures" min:"0" max:"1000000" reload:"yes"` // in Window; 0 = off
	Window   time.Duration `key:"window" min:"1s" max:"24h" reload:"yes"`
	Cooldown time.Duration `key:"cooldown" min:"100ms" max:"24h" reload:"yes"`
}

// The values of Billing.Mode.
const (
	BillingDirect = "direct" // reserve and settle in the database, request by request
	BillingOff    = "off"    // nothing is reserved or settled; usage is still logged
)

// Billing is how money and the usage log are kept.
type Billing struct {
	Mode             string        `key:"mode" oneof:"direct|off"`
	LogFlushInterval time.Duration `key:"log_flush_interval" min:"10ms" max:"1h" reload:"yes"`
	LogBatch         int           `key:"log_batch" min:"1" max:"10000" reload:"yes"`
	AssumedOutput    int64         `key:"assumed_output" min:"0" max:"100000000" reload:"yes"` // tokens reserved for an answer that the client did not bound
	ReserveTimeout   time.Duration `key:"reserve_timeout" min:"10ms" max:"1m" reload:"yes"`
}

// Sync is how changes reach the state in memory.
type Sync struct {
	Frequency     time.Duration `key:"frequency" min:"1s" max:"24h"`      // full check
	LookInterval  time.Duration `key:"look_interval" min:"10ms" max:"1m"` // look at the revision
	TokenCache    int           `key:"token_cache" min:"100" max:"100000000"`
	NegativeCache int           `key:"negative_cache" min:"100" max:"100000000"`
}

// Session is the login of the management API.
type Session struct {
	CookieSecure bool          `key:"cookie_secure" reload:"yes"`
	TrustedURLs  []string      `key:"trusted_urls" reload:"yes"` // origins that may call with the cookie from elsewhere
	MaxAge       time.Duration `key:"max_age" min:"1m" max:"87600h" reload:"yes"`
	ActiveLimit  int           `key:"active_limit" min:"1" max:"1000000" reload:"yes"`
}

// RateLimit holds the limits by client address (Search: by user).
type RateLimit struct {
	GlobalAPI Limit `key:"global_api"` // /api/* and the billing dashboard
	GlobalWeb Limit `key:"global_web"` // everything else that is not relay
	Critical  Limit `key:"critical"`   // login, password, key reveal
	Search    Limit `key:"search"`
}

// Limit is a number of requests in a window of time.
type Limit struct {
	Enabled bool          `key:"enabled" reload:"yes"`
	Limit   int64         `key:"limit" min:"1" max:"1000000000" reload:"yes"`
	Window  time.Duration `key:"window" min:"1s" max:"24h" reload:"yes"`
}

// The values of Log.Format.
const (
	LogJSON = "json"
	LogText = "text"
)

// Log is the node's own log (not the usage log).
type Log struct {
	Level    slog.Level    `key:"level" reload:"yes"`
	Format   string        `key:"format" oneof:"json|text"`
	Dir      string        `key:"dir"` // "" = stdout only
	MaxSize  int64         `key:"max_size" kind:"size" min:"1MB"`
	MaxFiles int           `key:"max_files" min:"0" max:"10000"` // rotated files kept; 0 = all
	MaxAge   time.Duration `key:"max_age" min:"0s"`              // of rotated files; 0 = any
	Timezone string        `key:"timezone"`                      // of the log's times; "" = the system's
}

// Metrics is where /metrics is served.
type Metrics struct {
	Listen string      `key:"listen"` // "" = no listener of its own
	Token  core.Secret `key:"token"`  // with it, /metrics also answers on server.listen
}

// Pprof is the profiler's listener.
type Pprof struct {
	Listen string `key:"listen"` // "" = off; a loopback address only
}

// Default returns a new Config with every key at its default. It is complete
// but for what Load works out: node.name, database.sqlite_path, the secrets.
func Default() *Config {
	return &Config{
		Server: Server{
			Listen: ":3000", MaxRequestBody: 128 << 20, AnonymousBody: 512 << 10, BodyBudget: 1 << 30,
			TrustedProxies: []netip.Prefix{
				netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
				netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
				netip.MustParsePrefix("fc00::/7"),
			},
			ShutdownTimeout: 120 * time.Second, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 120 * time.Second,
			MaxHeaderBytes: 64 << 10, CORSOrigins: []string{"*"},
		},
		Database: Database{MaxOpen: 32, MaxIdle: 32, MaxLifetime: 4 * time.Minute, SlowThreshold: 200 * time.Millisecond},
		Node:     Node{Role: core.NodeMaster, DataDir: "./data"},
		Relay: Relay{
			ConnectTimeout: 10 * time.Second, FirstByteTimeout: 300 * time.Second, IdleTimeout: 300 * time.Second,
			WriteTimeout: 30 * time.Second, PingInterval: 15 * time.Second, MaxLine: 128 << 20, RetryMaxWait: 10 * time.Second,
			ForceStreamOption: true, MaxIdleConns: 500, MaxIdleConnsPerHost: 100, IdleConnTimeout: 90 * time.Second,
			Breaker: Breaker{Failures: 5, Window: 30 * time.Second, Cooldown: 10 * time.Second},
		},
		Billing: Billing{
			Mode: BillingDirect, LogFlushInterval: time.Second, LogBatch: 500,
			AssumedOutput: 4096, ReserveTimeout: 250 * time.Millisecond,
		},
		Sync:    Sync{Frequency: 60 * time.Second, LookInterval: time.Second, TokenCache: 100_000, NegativeCache: 10_000},
		Session: Session{MaxAge: 720 * time.Hour, ActiveLimit: 50},
		RateLimit: RateLimit{
			GlobalAPI: Limit{Enabled: true, Limit: 360, Window: 180 * time.Second},
			GlobalWeb: Limit{Enabled: true, Limit: 120, Window: 180 * time.Second},
			Critical:  Limit{Enabled: true, Limit: 20, Window: 1200 * time.Second},
			Search:    Limit{Enabled: true, Limit: 10, Window: 60 * time.Second},
		},
		Log:     Log{Level: slog.LevelInfo, Format: LogJSON, Dir: "./logs", MaxSize: 100 << 20, MaxFiles: 10, MaxAge: 720 * time.Hour},
		Metrics: Metrics{Listen: "127.0.0.1:9090"},
	}
}
