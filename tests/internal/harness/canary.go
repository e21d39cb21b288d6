package harness

import (
	"bytes"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Canaries are the secrets of a test run: passwords, API keys, channel keys,
// session cookies. None of them may be seen in a node's log, metrics, files or
// replies, but for the routes that exist to reveal a key. Every node of every test
// is searched when it ends, and every reply that goes through API.
type Canaries struct {
	mu   sync.Mutex
	list map[string]string // secret -> what it is
}

var planted = &Canaries{list: map[string]string{}}

// Plant registers a secret. Texts under eight characters are not searched for.
func Plant(what, secret string) {
	if len(secret) < 8 {
		return
	}
	planted.mu.Lock()
	defer planted.mu.Unlock()
	planted.list[secret] = what
}

// FindCanary returns what secret stands in text, "" for none.
func FindCanary(text []byte) string {
	planted.mu.Lock()
	defer planted.mu.Unlock()
	for secret, what := range planted.list {
		if bytes.Contains(text, []byte(secret)) {
			return what
		}
	}
	return ""
}

// reveals reports whether a route may answer with a secret.
func reveals(method, path string) bool {
	u, err := url.Parse(path)
	if err != nil {
		return false
	}
	p := strings.TrimSuffix(u.Path, "/")
	return strings.HasSuffix(p, "/key") || strings.HasSuffix(p, "/keys") || p == "/api/user/token" || method == http.MethodPost && p == "/api/token"
}

// searchFiles looks for canaries in everything below the node's folder.
func searchFiles(dir string) (found []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // what is gone by now cannot leak
		}
		if b, err := os.ReadFile(path); err == nil {
			if what := FindCanary(b); what != "" {
				found = append(found, path+": "+what)
			}
		}
		return nil
	})
	return found
}

// metricsText is what the node's metrics listener shows, "" when it is gone.
func (n *Node) metricsText() []byte {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(n.Metrics + "/metrics")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return b
}

// checkCanaries fails the test if the node let a secret out.
func (n *Node) checkCanaries(metrics []byte) {
	if what := FindCanary(metrics); what != "" {
		n.t.Fatalf("a metric shows a secret: %s", what)
	}
	if what := FindCanary([]byte(n.Log.String())); what != "" {
		n.t.Fatalf("the node's log shows a secret: %s\n%s", what, n.Log)
	}
	if found := searchFiles(n.Dir); len(found) > 0 {
		n.t.Fatalf("files show secrets: %v", found)
	}
}
