package store

import "modernc.org/libc"

// heldSizes are the sizes of memory that SQLite takes and gives back whenever it
// splits pages, which is every few rows of the usage log.
var heldSizes = [...]int{4 << 10, 8 << 10, 16 << 10}

// sqliteMemory holds one piece of each size. The allocator under SQLite keeps
// pieces of a size together and gives their page back to the system with the last
// of them: without a held one each split costs an mmap, a munmap and page faults,
// a sixth of the CPU time of inserting log rows.
type sqliteMemory struct {
	thread *libc.TLS
	pieces []uintptr
}

func holdSQLiteMemory() *sqliteMemory {
	m := &sqliteMemory{thread: libc.NewTLS()}
	for _, n := range heldSizes {
		m.pieces = append(m.pieces, libc.Xmalloc(m.thread, libc.Tsize_t(n)))
	}
	return m
}

// release may be called again, and on nil.
func (m *sqliteMemory) release() {
	if m == nil || m.pieces == nil {
		return
	}
	for _, p := range m.pieces {
		libc.Xfree(m.thread, p)
	}
	m.thread.Close()
	m.pieces = nil
}
