package config

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/sluice-gateway/sluice/core"
)

// The files in the data folder that keep generated secrets.
const (
	sessionFile = "session_secret"
	cryptoFile  = "crypto_secret"
)

// WithStoredSecrets returns c with its secrets complete. On SQLite a missing one
// is read from the data folder, or generated there once with mode 0600. With
// MySQL nothing is missing, since Load refuses that. It makes the data folder.
func (c *Config) WithStoredSecrets() (*Config, error) {
	if err := os.MkdirAll(c.Node.DataDir, 0o700); err != nil {
		return nil, folderError(c, err)
	}
	return c.withSecrets(keepSecret)
}

// ReadStoredSecrets is WithStoredSecrets for looking only: it makes nothing, and
// leaves a secret empty that does not exist yet.
func (c *Config) ReadStoredSecrets() (*Config, error) {
	return c.withSecrets(func(path string) (core.Secret, error) {
		secret, err := readSecret(path)
		return secret, ignoreMissing(err)
	})
}

func (c *Config) withSecrets(get func(path string) (core.Secret, error)) (*Config, error) {
	out := *c
	out.origins = maps.Clone(c.origins)
	if out.origins == nil {
		out.origins = map[string]Origin{}
	}
	for _, f := range []struct {
		key, file string
		value     *core.Secret
	}{{"secrets.session", sessionFile, &out.Secrets.Session}, {"secrets.crypto", cryptoFile, &out.Secrets.Crypto}} {
		if *f.value != "" {
			continue
		}
		path := filepath.Join(c.Node.DataDir, f.file)
		secret, err := get(path)
		if err != nil {
			return nil, folderError(c, err)
		}
		if *f.value = secret; secret != "" {
			out.origins[f.key] = Origin{Source: SourceStored, Name: path}
		}
	}
	return &out, nil
}

// SecretValues are all configured secrets, for the log to hide.
func (c *Config) SecretValues() []core.Secret {
	out := []core.Secret{c.Secrets.Session, c.Secrets.Crypto, c.Metrics.Token, c.Database.DSN, c.Database.LogDSN}
	out = append(out, c.Secrets.CryptoOld...)
	for _, dsn := range []core.Secret{c.Database.DSN, c.Database.LogDSN} {
		// Shorter ones may be ordinary words; inside a DSN they are hidden by shape.
		if m, err := mysql.ParseDSN(dsn.Reveal()); err == nil && len(m.Passwd) >= minSecret {
			out = append(out, core.Secret(m.Passwd))
		}
	}
	return slices.DeleteFunc(out, func(s core.Secret) bool { return s == "" })
}

// keepSecret reads the file, or makes it. Of several processes that make it at
// the same time all get the same secret.
func keepSecret(path string) (core.Secret, error) {
	secret, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		random := make([]byte, 32)
		rand.Read(random) // never fails
		if err := writeOnce(path, hex.EncodeToString(random)+"\n"); err != nil {
			return "", err
		}
		secret, err = readSecret(path)
	}
	if err != nil {
		return "", err
	}
	return secret, closeToOthers(path)
}

// closeToOthers takes rights away that others should not have. A file that is
// not ours to change stays as it is.
func closeToOthers(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errReadOnly) {
		return err
	}
	return nil
}

func readSecret(path string) (core.Secret, error) {
	data, err := readFile(path)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(data))
	if err := checkSecret(text); err != nil {
		return "", fmt.Errorf("secret file %s %w; restore it from a backup (a new one cannot open what the old one sealed)", path, err)
	}
	return core.Secret(text), nil
}

// writeOnce makes path with its whole content, on disk, or leaves the file of
// whoever was first.
func writeOnce(path, content string) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ignoreMissing(os.Remove(tmp.Name()))) }()
	_, writeErr := tmp.WriteString(content)
	if err := errors.Join(writeErr, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without links: the window for two makers is short.
		if err := os.Rename(tmp.Name(), path); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, errInvalid) {
		return err
	}
	return nil
}

// folderError says whose data folder it must be.
func folderError(c *Config, err error) error {
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errReadOnly) {
		where := Problem{Where: c.Origin("node.data_dir"), Key: "node.data_dir", Reason: fmt.Sprintf("%s cannot be used by user id %d: give it to that user (chown -R %d %s), or name another folder",
			quote(c.Node.DataDir), os.Getuid(), os.Getuid(), c.Node.DataDir)}
		return fmt.Errorf("%w: %w", where, err)
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		where := Problem{Where: c.Origin("node.data_dir"), Key: "node.data_dir", Reason: fmt.Sprintf("%s cannot be used as the node's folder; name another one", quote(c.Node.DataDir))}
		return fmt.Errorf("%w: %w", where, err)
	}
	return fmt.Errorf("data folder: %w", err)
}
