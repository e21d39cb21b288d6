package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
)

const dsnTail = "parseTime=true&loc=UTC&time_zone=%27%2B00%3A00%27&clientFoundRows=true&charset=utf8mb4&collation=utf8mb4_general_ci" +
	"&multiStatements=false&allowAllFiles=false&interpolateParams=true&timeout=2s&readTimeout=10s&writeTimeout=5s&rejectReadOnly=true"

func TestNormalizeDSN(t *testing.T) {
	for _, tt := range []struct{ name, in, want, notes string }{
		{"empty", "", "", ""},
		{"blank", "  ", "", ""},
		{"local", "local", "", ""},
		{"local as New API", "local://x", "", ""},
		{"guide", "root:password@tcp(your-db-host:3306)/new-api", "root:password@tcp(your-db-host:3306)/new-api?" + dsnTail, ""},
		{"white space", " root:p@tcp(h:1)/d\n", "root:p@tcp(h:1)/d?" + dsnTail, ""},
		{"unix", "root@unix(/run/mysqld/mysqld.sock)/d", "root@unix(/run/mysqld/mysqld.sock)/d?" + dsnTail, ""},
		{"hard password", "u:p@:/(?)w@tcp(h:1)/d", "u:p@:/(?)w@tcp(h:1)/d?" + dsnTail, ""},
		{"kept", "u:p@tcp(h:1)/d?readTimeout=30s&tls=skip-verify", "u:p@tcp(h:1)/d?readTimeout=30s&tls=skip-verify&" + strings.Replace(dsnTail, "readTimeout=10s&", "", 1), ""},
		{"kept case", "u:p@tcp(h:1)/d?parseTime=True", "u:p@tcp(h:1)/d?" + dsnTail, ""},
		{
			"replaced", "u:p@tcp(h:1)/d?charset=utf8&parseTime=True&loc=Local&clientFoundRows=false",
			"u:p@tcp(h:1)/d?charset=utf8mb4&parseTime=true&loc=UTC&clientFoundRows=true&time_zone=%27%2B00%3A00%27&collation=utf8mb4_general_ci" +
				"&multiStatements=false&allowAllFiles=false&interpolateParams=true&timeout=2s&readTimeout=10s&writeTimeout=5s&rejectReadOnly=true",
			"charset loc clientFoundRows",
		},
		{"system variable", "u:p@tcp(h:1)/d?sql_mode=ANSI", "u:p@tcp(h:1)/d?sql_mode=ANSI&" + dsnTail, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, notes, err := NormalizeDSN(tt.in)
			if err != nil || got != tt.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tt.want)
			}
			var names []string
			for _, n := range notes {
				names = append(names, strings.Fields(n)[2])
			}
			if !slices.Equal(names, strings.Fields(tt.notes)) {
				t.Errorf("notes %q, want of %s", notes, tt.notes)
			}
		})
	}
}

func TestNormalizeDSNMeaning(t *testing.T) {
	dsn, _, err := NormalizeDSN("root:pa/ss@tcp(h:3306)/new-api")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Passwd != "pa/ss" || cfg.DBName != "new-api" || !cfg.ParseTime || cfg.Loc.String() != "UTC" || cfg.Params["time_zone"] != "'+00:00'" ||
		!cfg.ClientFoundRows || !cfg.InterpolateParams || !cfg.RejectReadOnly || cfg.Timeout == 0 || cfg.ReadTimeout == 0 || cfg.WriteTimeout == 0 ||
		cfg.MultiStatements || cfg.AllowAllFiles || !cfg.CheckConnLiveness || cfg.Collation != "utf8mb4_general_ci" {
		t.Errorf("%+v", cfg)
	}
}

func TestRefusedDSN(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"postgres", "postgres://u:s3cr3t@h/d", "PostgreSQL is not supported"},
		{"postgresql", "PostgreSQL://u:s3cr3t@h/d", "PostgreSQL is not supported"},
		{"clickhouse", "clickhouse://u:s3cr3t@h/d", "ClickHouse is not supported"},
		{"clickhouse tcp", "tcp://u:s3cr3t@h/d", "ClickHouse is not supported"},
		{"mysql url", "mysql://u:s3cr3t@h/d", "is a URL: write it as user:password@tcp(host:3306)/database"},
		{"other url", "oracle://u:s3cr3t@h/d", "unknown database"},
		{"no slash", "u:s3cr3t@tcp(h:1)", "has no / before the database name"},
		{"no database", "u:s3cr3t@tcp(h:1)/", "names no database"},
		{"no database but parameters", "u:s3cr3t@tcp(h:1)/?parseTime=true", "names no database"},
		{"brace", "u:s3cr3t@tcp(h:1/d", "is not of the form"},
		{"strict", "u:s3cr3t@tcp(h:1)/d?strict=true", "no longer knows"},
		{"bad value", "u:s3cr3t@tcp(h:1)/d?timeout=s3cr3t", `parameter "timeout" has a value`},
		{"negative", "u:s3cr3t@tcp(h:1)/d?timeout=-1s", `parameter "timeout" is out of range`},
		{"twice", "u:s3cr3t@tcp(h:1)/d?loc=UTC&loc=UTC", `parameter "loc" twice`},
		{"no value", "u:s3cr3t@tcp(h:1)/d?loc", "not of the form name=value"},
		{"collation", "u:s3cr3t@tcp(h:1)/d?collation=gbk_bin", "must be one of utf8mb4"},
		{"tls", "u:s3cr3t@tcp(h:1)/d?tls=custom", `parameter "tls" has a value`},
		{"network", "u:s3cr3t@carrier-pigeon(h:1)/d", "must reach the server by tcp"},
		{"network of the driver", "u:s3cr3t@h:3306/d", "is not of the form"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := NormalizeDSN(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("shows a secret: %v", err)
			}
		})
	}
}

func FuzzNormalizeDSN(f *testing.F) {
	for _, s := range []string{
		"root:password@tcp(your-db-host:3306)/new-api", "u:p@unix(/a)/d?loc=Local&x=%27", "local", "/d?strict=1", "u@/d?a=/b", "postgres://x", "@tcp(h)/d?timeout=1h&&",
		"u:p@tcp([::1]:3306)/d%2Fe?tls=preferred", "(/d?charset=gbk&interpolateParams=true",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		dsn, _, err := NormalizeDSN(raw)
		if err != nil || dsn == "" {
			return
		}
		again, notes, err := NormalizeDSN(dsn)
		if err != nil || again != dsn || len(notes) > 0 {
			t.Fatalf("not a fixed point: %q then %q, %v, %v", dsn, again, notes, err)
		}
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatalf("%q: %v", dsn, err)
		}
		if !cfg.ClientFoundRows || !cfg.ParseTime || cfg.MultiStatements || cfg.AllowAllFiles || cfg.DBName == "" {
			t.Fatalf("%q lacks a parameter", dsn)
		}
		// Where the driver reads the original, it reads the same account.
		defer func() { _ = recover() }() // the driver panics on "strict"
		old, err := mysql.ParseDSN(strings.TrimSpace(raw))
		if err == nil && (old.User != cfg.User || old.Passwd != cfg.Passwd || old.Addr != cfg.Addr || old.Net != cfg.Net || old.DBName != cfg.DBName) {
			t.Errorf("%q reads otherwise than %q", dsn, raw)
		}
	})
}
