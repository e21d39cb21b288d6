package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-gateway/sluice/core"
)

func TestStoredSecrets(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	src := Sources{Flags: map[string]string{"data-dir": dir}}
	first, err := load(t, src).WithStoredSecrets()
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Secrets.Session) != 64 || len(first.Secrets.Crypto) != 64 || first.Secrets.Session == first.Secrets.Crypto {
		t.Error("no two secrets of 32 bytes")
	}
	if got := first.Origin("secrets.crypto").String(); got != "stored "+filepath.Join(dir, "crypto_secret") {
		t.Error(got)
	}
	for _, name := range []string{"session_secret", "crypto_secret"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 2 {
		t.Errorf("left behind: %v", entries)
	}
	second, err := load(t, src).WithStoredSecrets()
	if err != nil || second.Secrets.Session != first.Secrets.Session || second.Secrets.Crypto != first.Secrets.Crypto {
		t.Error("a second start has other secrets", err)
	}
	third, err := load(t, Sources{Flags: src.Flags, Env: []string{"CRYPTO_SECRET=" + secretA}}).WithStoredSecrets()
	if err != nil || third.Secrets.Crypto != secretA || third.Secrets.Session != first.Secrets.Session {
		t.Error("a given secret must win over the stored one", err)
	}
}

func TestStoredSecretsTogether(t *testing.T) {
	c := load(t, Sources{Flags: map[string]string{"data-dir": t.TempDir()}})
	got := make([]core.Secret, 16)
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() {
			full, err := c.WithStoredSecrets()
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = full.Secrets.Crypto
		})
	}
	wg.Wait()
	for i := range got {
		if got[i] == "" || got[i] != got[0] {
			t.Fatal("nodes that start together disagree on the secret")
		}
	}
}

func TestStoredSecretsBroken(t *testing.T) {
	for _, content := range []string{"", "short\n", "random_string"} {
		dir := t.TempDir()
		path := filepath.Join(dir, "session_secret")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := load(t, Sources{Flags: map[string]string{"data-dir": dir}}).WithStoredSecrets()
		if err == nil || !strings.Contains(err.Error(), "restore it from a backup") {
			t.Errorf("%q: %v", content, err)
		}
		if data, _ := os.ReadFile(path); string(data) != content {
			t.Error("the broken file was replaced")
		}
	}
	// An open file is closed to others.
	dir := t.TempDir()
	path := filepath.Join(dir, "session_secret")
	if err := os.WriteFile(path, []byte(secretA), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := load(t, Sources{Flags: map[string]string{"data-dir": dir}}).WithStoredSecrets(); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Error(info.Mode())
	}
}

func TestDataFolderIsAFile(t *testing.T) {
	file := writeTemp(t, "f", "")
	_, err := load(t, Sources{Flags: map[string]string{"data-dir": file}}).WithStoredSecrets()
	if err == nil || !strings.Contains(err.Error(), "--data-dir: node.data_dir: ") {
		t.Error(err)
	}
}

func TestFolderErrorNamesUser(t *testing.T) {
	c := load(t, Sources{Flags: map[string]string{"data-dir": "/data"}})
	err := folderError(c, &os.PathError{Op: "mkdir", Path: "/data", Err: os.ErrPermission})
	if !strings.Contains(err.Error(), "cannot be used by user id") || !strings.Contains(err.Error(), "flag --data-dir") {
		t.Error(err)
	}
}

func TestReadStoredSecretsMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c := load(t, Sources{Flags: map[string]string{"data-dir": dir}})
	if seen, err := c.ReadStoredSecrets(); err != nil || seen.Secrets.Crypto != "" {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("looking made the data folder")
	}
	full, err := c.WithStoredSecrets()
	if err != nil {
		t.Fatal(err)
	}
	if seen, err := c.ReadStoredSecrets(); err != nil || seen.Secrets.Crypto != full.Secrets.Crypto || seen.Origin("secrets.crypto").Source != SourceStored {
		t.Error(err)
	}
}

func TestSecretValues(t *testing.T) {
	c := load(t, Sources{Env: []string{
		"SQL_DSN=u:a-long-database-password@tcp(h:1)/d", "SESSION_SECRET=" + secretA, "CRYPTO_SECRET=" + secretB, "CRYPTO_SECRET_OLD=older-secret", "SLUICE_METRICS__TOKEN=metrics-token",
	}})
	values := c.SecretValues()
	for _, want := range []core.Secret{secretA, secretB, "older-secret", "metrics-token", "a-long-database-password", c.Database.DSN} {
		if !slices.Contains(values, want) {
			t.Errorf("lacks %q", want.Reveal())
		}
	}
	if slices.Contains(values, "") || len(values) != 6 {
		t.Errorf("%d values", len(values))
	}
}
