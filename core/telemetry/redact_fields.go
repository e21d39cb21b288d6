package telemetry

import (
	"bytes"
	"slices"
)

// redactFields hides the values of name=value (URLs, forms, text logs) and of
// "name":"value" (JSON, also quoted once more) where name is that of a secret.
func redactFields(line []byte) []byte {
	var out []byte
	done := 0
	for i := 0; i < len(line); i++ {
		var from, to int
		switch {
		case line[i] == '=' && secretParam(word(line[:i])):
			from, to = i+1, i+1+valueEnd(line[i+1:], " \t\r\n&\"'\\,;)")
		case line[i] == ':' && i > 0 && line[i-1] == '"' && secretField(word(bytes.TrimRight(line[:i], `\"`))):
			from = jsonValue(line, i)
			if from < 0 {
				continue
			}
			to = from + valueEnd(line[from:], `"\`)
		default:
			continue
		}
		if to <= from || bytes.HasPrefix(line[from:], redacted) {
			continue
		}
		out = append(append(out, line[done:from]...), redacted...)
		done, i = to, to-1
	}
	if done == 0 {
		return line
	}
	return append(out, line[done:]...)
}

// jsonValue is where the text behind the colon begins, or -1 when no text stands
// there. Its quote must be as deeply quoted as that of the name.
func jsonValue(line []byte, colon int) int {
	name := line[:colon-1]
	depth := len(name) - len(bytes.TrimRight(name, `\`))
	rest := bytes.TrimLeft(line[colon+1:], " ")
	opened := bytes.TrimLeft(rest, `\`)
	if len(rest)-len(opened) != depth || len(opened) == 0 || opened[0] != '"' {
		return -1
	}
	return len(line) - len(opened) + 1
}

func valueEnd(line []byte, ends string) int {
	if at := bytes.IndexAny(line, ends); at >= 0 {
		return at
	}
	return len(line)
}

// word is the name at the end of text, without the letters of an escape that
// stands before it ("\nkey").
func word(text []byte) []byte {
	i := len(text)
	for i > 0 && isNameByte(text[i-1]) {
		i--
	}
	name := text[i:]
	if slashes := i - len(bytes.TrimRight(text[:i], `\`)); slashes%2 == 0 || len(name) == 0 {
		return name
	}
	skip := map[byte]int{'u': 5, 'U': 9, 'x': 3}[name[0]]
	return name[min(max(skip, 1), len(name)):]
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}

// secretParam names what is secret in a URL or form.
func secretParam(name []byte) bool {
	return endsWith(name, "key", "token", "secret", "password", "passwd", "pwd", "cookie", "signature", "session")
}

// secretField names what is secret in JSON. "key" and "token" alone are not:
// logs use them for names and numbers.
func secretField(name []byte) bool {
	return endsWith(name, "authorization", "cookie", "password", "secret", "api_key", "api-key", "access_token", "refresh_token")
}

// endsWith reports whether name is one of the words, or ends with one after _ or
// -, in any case.
func endsWith(name []byte, words ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool {
		rest := len(name) - len(w)
		return rest >= 0 && bytes.EqualFold(name[rest:], []byte(w)) && (rest == 0 || name[rest-1] == '_' || name[rest-1] == '-')
	})
}
