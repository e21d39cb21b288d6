package app

import (
	"fmt"
	"io"
	"os"

	"github.com/sluice-gateway/sluice/core"
)

// printDemo shows lines that work as they are. This is one of the few places
// that reveal a secret: the operator asked for it.
func printDemo(w io.Writer, base string, key, password core.Secret) {
	k := "sk-" + key.Reveal()
	fmt.Fprintf(w, "\nSluice is running at %s, with a fake LLM as its upstream.\n", base)
	if password != "" {
		fmt.Fprintf(w, "Root was created: user root, password %s (shown once; another one: %s user reset-password root).\n", password.Reveal(), os.Args[0])
	}
	fmt.Fprintf(w, `
Chat:
  curl -s %[1]s/v1/chat/completions -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' -d '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello"}]}'

Chat, streamed:
  curl -sN %[1]s/v1/chat/completions -H 'Authorization: Bearer %[2]s' -H 'Content-Type: application/json' -d '{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Hello"}]}'

Claude:
  curl -s %[1]s/v1/messages -H 'x-api-key: %[2]s' -H 'anthropic-version: 2023-06-01' -H 'Content-Type: application/json' -d '{"model":"claude-sonnet-4-5","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}'

Gemini:
  curl -s '%[1]s/v1beta/models/gemini-2.5-flash:generateContent' -H 'x-goog-api-key: %[2]s' -H 'Content-Type: application/json' -d '{"contents":[{"parts":[{"text":"Hello"}]}]}'

What it cost:
  curl -s %[1]s/api/usage/token/ -H 'Authorization: Bearer %[2]s'

Ctrl-C ends it; the data stays in the data folder.
`, base, k)
}
