package store

import (
	"strings"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/sluice-gateway/sluice/core"
)

// Bounds of lists.
const (
	maxLimit   = 1000
	maxOffset  = 1_000_000
	maxKeyword = 128
)

// window applies offset and limit within bounds.
func window(q *bun.SelectQuery, p core.PageQuery) *bun.SelectQuery {
	return q.Offset(pageOffset(p)).Limit(pageLimit(p))
}

func pageOffset(p core.PageQuery) int64 { return int64(min(max(p.Offset, 0), maxOffset)) }

func pageLimit(p core.PageQuery) int64 {
	if p.Limit <= 0 {
		return 10
	}
	return int64(min(p.Limit, maxLimit))
}

// pattern makes a LIKE pattern that finds text anywhere, with its own
// wildcards taken literally ("!" escapes) and its length bounded.
func pattern(text string) (string, error) {
	if utf8.RuneCountInString(text) > maxKeyword {
		return "", invalid("keyword", "at most %d characters can be searched for", maxKeyword)
	}
	if !utf8.ValidString(text) {
		return "", invalid("keyword", "is not UTF-8")
	}
	return "%" + escapeLike(text) + "%", nil
}

func escapeLike(text string) string {
	return strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(text)
}

// contains matches any of the columns without regard to case.
func contains(q *bun.SelectQuery, like string, columns ...string) *bun.SelectQuery {
	for _, c := range columns {
		q = q.WhereOr("LOWER("+c+") LIKE LOWER(?) ESCAPE '!'", like)
	}
	return q
}
