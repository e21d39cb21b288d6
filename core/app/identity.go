package app

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
)

// identity returns who this process is. The id is kept in the data folder, so
// that a restarted node finds the reservations that its predecessor left.
func identity(cfg *config.Config, version string) (core.Node, error) {
	id, err := nodeID(cfg.Node.DataDir)
	if err != nil {
		return core.Node{}, err
	}
	name := cfg.Node.Name
	if name == "" {
		if name, err = os.Hostname(); err != nil || name == "" {
			name = id[:8]
		}
	}
	return core.Node{ID: id, Boot: randomID(), Name: name, Role: cfg.Node.Role, Version: version, StartedAt: time.Now()}, nil
}

func nodeID(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("data folder %s cannot be made (uid %d): %w; make it writable or set node.data_dir", dir, os.Getuid(), err)
	}
	path := filepath.Join(dir, "node_id")
	b, err := os.ReadFile(path)
	if err == nil {
		if id := strings.TrimSpace(string(b)); len(id) == 32 {
			return id, nil
		}
		return "", fmt.Errorf("%s does not hold a node id of 32 characters; remove the file to get a new one", path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read node id: %w", err)
	}
	id := randomID()
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("data folder %s is not writable by uid %d: %w", dir, os.Getuid(), err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", fmt.Errorf("write node id: %w", err)
	}
	return id, nil
}

func randomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
