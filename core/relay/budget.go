package relay

import "sync/atomic"

// budget bounds the memory of all bodies together. A limit of 0 bounds nothing.
type budget struct{ used atomic.Int64 }

// take adds n to what is in use, or reports that limit would be passed.
func (b *budget) take(n, limit int64) bool {
	if b.used.Add(n) > limit && limit > 0 {
		b.used.Add(-n)
		return false
	}
	return true
}

// give returns what take took.
func (b *budget) give(n int64) { b.used.Add(-n) }
