package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// node is the one that npm brought (the SDKs want a newer one than many systems
// have), else the one on PATH.
func node(t *testing.T) string {
	t.Helper()
	local, err := filepath.Abs("js/node_modules/.bin/node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(local); err == nil {
		return local
	}
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("Node is missing: run tests/setup.sh")
	}
	return path
}

func TestJavaScriptSDKs(t *testing.T) {
	if _, err := os.Stat("js/node_modules/openai"); err != nil {
		t.Fatal("the SDKs are missing: run tests/setup.sh")
	}
	s := newSite(t)
	for _, vendor := range []string{"openai", "anthropic", "gemini"} {
		t.Run(vendor, func(t *testing.T) {
			cmd := exec.Command(node(t), "--test", "--test-reporter=tap", "--test-timeout=60000", vendor+".test.mjs")
			cmd.Dir = "js"
			cmd.Env = append(os.Environ(), "SLUICE_URL="+s.url, "SLUICE_KEY="+s.key, "SLUICE_POOR_KEY="+s.poor)
			out, err := cmd.CombinedOutput()
			cases := 0
			for line := range strings.Lines(string(out)) {
				if name, ok := strings.CutPrefix(strings.TrimSpace(line), "ok "); ok && strings.Contains(name, vendor+":") {
					cases++
				}
			}
			if err != nil || cases < 6 {
				t.Fatalf("%d cases passed, %v:\n%s", cases, err, out)
			}
		})
	}
}
