package app

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
)

// identity returns who this process is. The id is kept in the data folder, so
// that a restarted node finds the reservations that its predecessor left. The id
// is this process's until release is called.
func identity(cfg *config.Config, version string) (node core.Node, release func() error, err error) {
	id, release, err := nodeID(cfg.Node.DataDir)
	if err != nil {
		return core.Node{}, nil, err
	}
	name := cfg.Node.Name
	if name == "" {
		if name, err = os.Hostname(); err != nil || name == "" {
			name = id[:8]
		}
	}
	return core.Node{ID: id, Boot: randomID(), Name: name, Role: cfg.Node.Role, Version: version, StartedAt: time.Now()}, release, nil
}

// maxNodes bounds the nodes that run in one data folder at a time.
const maxNodes = 64

// nodeID takes the first id of the folder that no running process has: node_id,
// then node_id.2 and so on. Two nodes with one id would settle each other's open
// reservations when they start.
func nodeID(dir string) (id string, release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("data folder %s cannot be made (uid %d): %w; make it writable or set node.data_dir", dir, os.Getuid(), err)
	}
	path := filepath.Join(dir, "node_id")
	for n := 1; n <= maxNodes; n++ {
		file := path
		if n > 1 {
			file = fmt.Sprintf("%s.%d", path, n)
		}
		f, err := openNodeID(file)
		if err != nil {
			return "", nil, fmt.Errorf("data folder %s is not writable by uid %d: %w", dir, os.Getuid(), err)
		}
		if lockFile(f) {
			_ = f.Close()
			continue
		}
		if id, err = readNodeID(f); err != nil {
			return "", nil, errors.Join(err, f.Close())
		}
		return id, f.Close, nil
	}
	return "", nil, fmt.Errorf("%d nodes run in the data folder %s; name another one with --data-dir or node.data_dir", maxNodes, dir)
}

// openNodeID makes the file where it is missing. One that exists need not be
// writable.
func openNodeID(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		if known, readErr := os.Open(path); readErr == nil {
			return known, nil
		}
	}
	return f, err
}

// readNodeID returns the id in f. An empty file gets a new one.
func readNodeID(f *os.File) (string, error) {
	b, err := io.ReadAll(io.LimitReader(f, 100))
	if err != nil {
		return "", fmt.Errorf("read node id: %w", err)
	}
	if id := strings.TrimSpace(string(b)); len(id) == 32 {
		return id, nil
	} else if id != "" {
		return "", fmt.Errorf("%s does not hold a node id of 32 characters; remove the file to get a new one", f.Name())
	}
	id := randomID()
	if _, err := f.WriteAt([]byte(id+"\n"), 0); err != nil {
		return "", fmt.Errorf("write node id: %w", err)
	}
	if err := f.Sync(); err != nil {
		return "", fmt.Errorf("write node id: %w", err)
	}
	return id, nil
}

func randomID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
