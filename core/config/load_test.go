package config

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/core"
)

const (
	secretA = "0123456789abcdef0123456789abcdef"
	secretB = "fedcba9876543210fedcba9876543210"
	mysqlIn = "root:password@tcp(your-db-host:3306)/new-api"
)

func load(t *testing.T, src Sources) *Config {
	t.Helper()
	c, err := Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func writeTemp(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaults(t *testing.T) {
	c := load(t, Sources{})
	want := Default()
	want.Node.Name = hostname()
	want.Database.SQLitePath = filepath.Join("data", "sluice.db")
	want.origins, want.notices = c.origins, c.notices
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if c.Database.MySQL() {
		t.Error("without SQL_DSN it is not MySQL")
	}
}

// Each bad file says in its first line what the error must hold.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(data), "\n")
			want, ok := strings.CutPrefix(first, "# want: ")
			if !ok {
				t.Fatal("the first line must be # want: …")
			}
			_, err = Load(Sources{File: file})
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want Problems with %q", err, want)
			}
			if strings.HasPrefix(want, ":") {
				want = file + want
			}
			if !strings.Contains(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestOrderOfSources(t *testing.T) {
	file := writeTemp(t, "c.yaml", "server:\n  listen: 127.0.0.1:1\nrelay:\n  idle_timeout: 1s\n  timeout: 2s\n  max_line: 1MB\n")
	dotEnv := writeTemp(t, ".env", "# comment\nRELAY_TIMEOUT=3\nexport STREAM_SCANNER_MAX_BUFFER_MB=\"4\"\nSLUICE_CONFIG="+file+"\n")
	c := load(t, Sources{
		DotEnv: dotEnv,
		Env:    []string{"STREAM_SCANNER_MAX_BUFFER_MB=5", "SLUICE_RELAY__IDLE_TIMEOUT=6s", "STREAMING_TIMEOUT=7", "PORT=8"},
		Flags:  map[string]string{"port": "9", "log-dir": "/l", "data-dir": "/d"},
	})
	for _, tt := range []struct{ key, got, want, origin string }{
		{"relay.timeout", c.Relay.Timeout.String(), "3s", "env RELAY_TIMEOUT (" + dotEnv + ")"},
		{"relay.max_line", formatSize(c.Relay.MaxLine), "5MB", "env STREAM_SCANNER_MAX_BUFFER_MB"},
		{"relay.idle_timeout", c.Relay.IdleTimeout.String(), "6s", "env SLUICE_RELAY__IDLE_TIMEOUT"},
		{"server.listen", c.Server.Listen, "127.0.0.1:9", "flag --port"},
		{"log.dir", c.Log.Dir, "/l", "flag --log-dir"},
		{"node.data_dir", c.Node.DataDir, "/d", "flag --data-dir"},
		{"database.sqlite_path", c.Database.SQLitePath, "/d/sluice.db", "default"},
		{"relay.ping_interval", c.Relay.PingInterval.String(), "15s", "default"},
	} {
		if tt.got != tt.want || c.Origin(tt.key).String() != tt.origin {
			t.Errorf("%s = %s from %s, want %s from %s", tt.key, tt.got, c.Origin(tt.key), tt.want, tt.origin)
		}
	}
	if !slices.ContainsFunc(c.Notices(), func(n Notice) bool { return n.Name == "STREAMING_TIMEOUT" }) {
		t.Error("an overruled variable is not told")
	}
	if got := load(t, Sources{File: file}).Origin("relay.timeout").String(); got != file+":5" {
		t.Error(got)
	}
}

func TestGuideEnvironment(t *testing.T) {
	c := load(t, Sources{Env: []string{
		"SQL_DSN=" + mysqlIn, "REDIS_CONN_STRING=redis://default:password@your-redis-host:6379", "SESSION_SECRET=" + secretA, "CRYPTO_SECRET=" + secretB,
		"NODE_TYPE=slave", "SYNC_FREQUENCY=60", "TZ=Asia/Shanghai", "FRONTEND_BASE_URL=https://your-domain.com/", "BATCH_UPDATE_ENABLED=true",
		"BATCH_UPDATE_INTERVAL=5", "REDIS_PASSWORD=x", "REDIS_MASTER_NAME=mymaster", "REDIS_CONN_POOL_SIZE=ten",
		"LOG_SQL_DSN=root:password@tcp(log-db-host:3306)/new_api_logs", "SQL_MAX_OPEN_CONNS=",
	}})
	if !c.Database.MySQL() || !strings.HasPrefix(c.Database.DSN.Reveal(), mysqlIn+"?") || !strings.Contains(c.Database.LogDSN.Reveal(), "clientFoundRows=true") {
		t.Error(c.Database.DSN.Reveal(), c.Database.LogDSN.Reveal())
	}
	if c.Node.Role != core.NodeSlave || c.Sync.Frequency != time.Minute || c.Billing.LogFlushInterval != 5*time.Second ||
		c.Log.Timezone != "Asia/Shanghai" || c.Node.FrontendBaseURL != "https://your-domain.com" || c.Database.MaxOpen != 32 {
		t.Errorf("%+v", c)
	}
	var names []string
	for _, n := range c.Notices() {
		names = append(names, n.Name)
	}
	if want := []string{"BATCH_UPDATE_ENABLED", "REDIS_CONN_POOL_SIZE", "REDIS_CONN_STRING", "REDIS_MASTER_NAME", "REDIS_PASSWORD"}; !slices.Equal(names, want) {
		t.Errorf("notices %v, want %v", names, want)
	}
}

// Every honoured variable changes its key, and refuses nonsense with its name.
func TestNewAPINames(t *testing.T) {
	good := map[string]string{
		"NODE_TYPE": "auto", "TRUSTED_PROXIES": "none", "TZ": "UTC", "SQL_DSN": mysqlIn, "LOG_SQL_DSN": mysqlIn, "SQLITE_PATH": "/x/one-api.db?_busy_timeout=30000",
		"SESSION_SECRET": secretA, "CRYPTO_SECRET": secretB, "CRYPTO_SECRET_OLD": "a,b", "SESSION_COOKIE_TRUSTED_URL": "https://a.example,https://b.example",
		"FRONTEND_BASE_URL": "https://a.example", "NODE_NAME": "n1", "VERSION": "v9", "FORCE_STREAM_OPTION": "false",
		"GLOBAL_API_RATE_LIMIT_ENABLE": "false", "GLOBAL_WEB_RATE_LIMIT_ENABLE": "0", "CRITICAL_RATE_LIMIT_ENABLE": "FALSE", "SEARCH_RATE_LIMIT_ENABLE": "false",
		"ERROR_LOG_ENABLED": "true", "BATCH_UPDATE_INTERVAL": "77", "TLS_INSECURE_SKIP_VERIFY": "true", "SESSION_COOKIE_SECURE": "true", "DEBUG": "true", "ENABLE_PPROF": "true",
	}
	takesAnything := []string{"NODE_NAME", "VERSION", "SQLITE_PATH", "CRYPTO_SECRET_OLD"}
	s := newSchema()
	for _, n := range newAPINames() {
		t.Run(n.name, func(t *testing.T) {
			k := s.byName[n.key]
			if k == nil {
				t.Fatalf("key %s does not exist", n.key)
			}
			value := good[n.name]
			if value == "" {
				value = "7777"
			}
			env := []string{n.name + "=" + value}
			if strings.HasSuffix(n.name, "SQL_DSN") {
				env = append(env, "SESSION_SECRET="+secretA, "CRYPTO_SECRET="+secretB)
			}
			c := load(t, Sources{Env: env})
			if reflect.DeepEqual(k.field(c).Interface(), k.field(load(t, Sources{})).Interface()) {
				t.Errorf("%s=%s did not change %s", n.name, value, n.key)
			}
			if c.Origin(n.key).String() != "env "+n.name {
				t.Error(c.Origin(n.key))
			}
			_, err := Load(Sources{Env: []string{n.name + "=nonsense,*"}})
			if slices.Contains(takesAnything, n.name) {
				return
			}
			if err == nil || !strings.Contains(err.Error(), "env "+n.name+": "+n.key+": ") {
				t.Errorf("nonsense: %v", err)
			}
		})
	}
}

func TestUnitsOfNewAPI(t *testing.T) {
	c := load(t, Sources{Env: []string{
		"MAX_REQUEST_BODY_MB=2048", "ANONYMOUS_REQUEST_BODY_LIMIT_KB=3", "SQL_MAX_LIFETIME=60", "SQL_SLOW_THRESHOLD_MS=0", "PORT=8080",
		"TRUSTED_PROXIES=10.1.2.3, 192.0.2.0/24", "ENABLE_PPROF=false", "DEBUG=false", "SQLITE_PATH=one-api.db?_busy_timeout=30000",
	}})
	if c.Server.MaxRequestBody != 2<<30 || c.Server.BodyBudget != 2<<30 || c.Server.AnonymousBody != 3<<10 ||
		c.Database.MaxLifetime != time.Minute || c.Database.SlowThreshold != 0 || c.Server.Listen != ":8080" || c.Pprof.Listen != "" ||
		c.Log.Level != 0 || c.Database.SQLitePath != "one-api.db" {
		t.Errorf("%+v", c)
	}
	if want := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("192.0.2.0/24")}; !slices.Equal(c.Server.TrustedProxies, want) {
		t.Error(c.Server.TrustedProxies)
	}
}

func TestBadEnvironment(t *testing.T) {
	dir := t.TempDir()
	empty := writeTemp(t, "empty", "\n")
	for _, tt := range []struct {
		name string
		src  Sources
		want string
	}{
		{"misspelt own", Sources{Env: []string{"SLUICE_RELAY__IDLE_TIMEOT=1s"}}, "env SLUICE_RELAY__IDLE_TIMEOT: no such key: relay.idle_timeot (did you mean SLUICE_RELAY__IDLE_TIMEOUT?)"},
		{"own value", Sources{Env: []string{"SLUICE_RELAY__IDLE_TIMEOUT=60"}}, `env SLUICE_RELAY__IDLE_TIMEOUT: relay.idle_timeout: "60" has no unit`},
		{"file of a non-secret", Sources{Env: []string{"SLUICE_RELAY__IDLE_TIMEOUT_FILE=/x"}}, "SLUICE_RELAY__IDLE_TIMEOUT_FILE"},
		{"file missing", Sources{Env: []string{"SESSION_SECRET_FILE=" + dir + "/none"}}, "env SESSION_SECRET_FILE: read"},
		{"file empty", Sources{Env: []string{"SESSION_SECRET_FILE=" + empty}}, "is empty"},
		{"file and value", Sources{Env: []string{"SESSION_SECRET_FILE=" + empty, "SESSION_SECRET=" + secretA}}, "SESSION_SECRET is set as well"},
		{"sync frequency", Sources{Env: []string{"SYNC_FREQUENCY=abc"}}, `env SYNC_FREQUENCY: sync.frequency: "abc" is not a whole number of seconds`},
		{"sync frequency zero", Sources{Env: []string{"SYNC_FREQUENCY=0"}}, "env SYNC_FREQUENCY: sync.frequency: 0s is less than 1s"},
		{"overflow", Sources{Env: []string{"SYNC_FREQUENCY=9223372036854775807"}}, "env SYNC_FREQUENCY: sync.frequency:"},
		{"node type", Sources{Env: []string{"NODE_TYPE=Slave"}}, `env NODE_TYPE: node.role: "Slave" is not one of master, slave, auto`},
		{"slave on sqlite", Sources{Env: []string{"NODE_TYPE=slave"}}, "env NODE_TYPE: node.role: a slave needs the database of its master"},
		{"placeholder", Sources{Env: []string{"CRYPTO_SECRET=your_unique_crypto_secret"}}, "env CRYPTO_SECRET: secrets.crypto: \"your_unique_crypto_secret\" is a placeholder"},
		{"mysql without secrets", Sources{Env: []string{"SQL_DSN=" + mysqlIn}}, "secrets.session: is not set. With MySQL"},
		{"sqlite logs", Sources{Env: []string{"SQL_DSN=" + mysqlIn, "LOG_SQL_DSN=local", "SESSION_SECRET=" + secretA, "CRYPTO_SECRET=" + secretB}}, "env LOG_SQL_DSN: database.log_dsn: SQLite logs beside"},
		{"config missing", Sources{Env: []string{"SLUICE_CONFIG=" + dir + "/none.yaml"}}, "env SLUICE_CONFIG: read"},
		{"config flag missing", Sources{File: dir + "/none.yaml"}, "flag --config: read"},
		{"port flag", Sources{Flags: map[string]string{"port": "99999"}}, `flag --port: server.listen: "99999" is not a port number`},
		{"unknown flag", Sources{Flags: map[string]string{"x": "1"}}, "flag --x: no such setting"},
		{"dotenv is a folder", Sources{DotEnv: dir}, dir + ": read"},
		{"dotenv syntax", Sources{DotEnv: writeTemp(t, ".env", "A=1\nB=2\n- SQL_DSN=s3cr3t\n")}, ".env:3: is not of the form NAME=value"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(tt.src)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "root:password")) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Load(Sources{
		File: writeTemp(t, "c.yaml", "relay:\n  idle_timeout: x\n  wrong: 1\n"),
		Env:  []string{"SYNC_FREQUENCY=x", "SLUICE_LOG__LEVEL=x"},
	})
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 4 {
		t.Errorf("%v", err)
	}
}

func TestSecretFiles(t *testing.T) {
	a, b := writeTemp(t, "a", secretA+"\n"), writeTemp(t, "b", secretB)
	c := load(t, Sources{Env: []string{"SESSION_SECRET_FILE=" + a, "SLUICE_SECRETS__CRYPTO_FILE=" + b, "CRYPTO_SECRET_OLD=old-one, old-two,", "SESSION_SECRET="}})
	if c.Secrets.Session != secretA || c.Secrets.Crypto != secretB || !slices.Equal(c.Secrets.CryptoOld, []core.Secret{"old-one", "old-two"}) {
		t.Error("secrets differ")
	}
	if got := c.Origin("secrets.session").String(); got != "env SESSION_SECRET_FILE" {
		t.Error(got)
	}
}

func TestSecretsEqualWarn(t *testing.T) {
	c := load(t, Sources{Env: []string{"SESSION_SECRET=" + secretA, "CRYPTO_SECRET=" + secretA}})
	if len(c.Notices()) != 1 || !strings.Contains(c.Notices()[0].Text, "the same value") {
		t.Error(c.Notices())
	}
}

func TestStrangeVariables(t *testing.T) {
	c := load(t, Sources{Env: []string{
		"SLUICE_SERVICE_HOST=10.0.0.1", "SLUICE_PORT=tcp://10.0.0.1:3000", "SLUICE_PORT_3000_TCP=x", "SLUICE_TEST_MYSQL_DSN=x", "SLUICE_CONFIG=",
		"SLUICE_LISTEN=:1", "PATH=/bin", "=C:=x", "HOSTNAME=h",
	}})
	if len(c.Notices()) != 1 || c.Notices()[0].Name != "SLUICE_LISTEN" {
		t.Error(c.Notices())
	}
}

func TestPrint(t *testing.T) {
	c := load(t, Sources{Env: []string{"SQL_DSN=" + mysqlIn, "SESSION_SECRET=" + secretA, "CRYPTO_SECRET=" + secretB, "CRYPTO_SECRET_OLD=older-secret", "REDIS_CONN_STRING=redis://:pw@h"}})
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{secretA, secretB, "older-secret", "password@", ":pw@"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("shows %q:\n%s", secret, b.String())
		}
	}
	for _, want := range []string{
		"# env SESSION_SECRET\n", "# REDIS_CONN_STRING: has no effect: Redis is not used by this version\n", "  crypto_old: [\"[redacted]\"]", "    window: 20m ",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("lacks %q:\n%s", want, b.String())
		}
	}
	// What is printed reads back, secrets and what belongs to MySQL apart.
	settings, problems := parseYAML(newSchema(), "printed", b.Bytes())
	if len(problems) > 0 || len(settings) != len(Keys()) {
		t.Errorf("%d settings, %v", len(settings), problems)
	}
	for _, s := range settings {
		if _, err := newSchema().byName[s.key].parse(s.leaf); err != nil {
			t.Errorf("%s: %v", s.key, err)
		}
	}
}

// One look shows all faults: those of single values and those of rules, a file's
// in the order of its lines; a rule about a default does not echo another fault.
func TestProblemsOfValuesAndRules(t *testing.T) {
	file := writeTemp(t, "sluice.yaml", "server:\n  listen: nowhere\n  bogus: 1\nrelay:\n  timeout: abc\nsecrets:\n  crypto: random_string\n")
	_, err := Load(Sources{File: file, Env: []string{"PORT_=1", "SYNC_FREQUENCY=x", "SQL_DSN=u:p@tcp(h:1)/d", "SESSION_SECRET_FILE=/none"}})
	if err == nil {
		t.Fatal("no problem")
	}
	lines := strings.Split(err.Error(), "\n")
	for i, want := range []string{":2: server.listen", ":3: unknown key", ":5: relay.timeout", ":7: secrets.crypto", "SYNC_FREQUENCY", "SESSION_SECRET_FILE"} {
		if i >= len(lines) || !strings.Contains(err.Error(), want) || (i < 4 && !strings.Contains(lines[i], want)) {
			t.Errorf("%q is not in place:\n%s", want, err)
		}
	}
	if strings.Contains(err.Error(), "secrets.session: is not set") {
		t.Errorf("an echo:\n%s", err)
	}
}
