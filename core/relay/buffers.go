package relay

import "sync"

const (
	pooledMin = 32 << 10 // smaller buffers are left to the garbage collector
	pooledMax = 1 << 20  // larger ones are too rare to keep
)

// buffers is a pool of byte buffers by size class: 32 KB to 1 MB.
type buffers struct{ classes [6]sync.Pool }

// bufferSize is the capacity of the buffer that get returns for n.
func bufferSize(n int64) int64 {
	if n < pooledMin || n > pooledMax {
		return n
	}
	size := int64(pooledMin)
	for size < n {
		size <<= 1
	}
	return size
}

func bufferClass(size int64) int {
	i := 0
	for s := int64(pooledMin); s < size; s <<= 1 {
		i++
	}
	return i
}

// get returns an empty buffer of capacity bufferSize(n).
func (p *buffers) get(n int64) []byte {
	size := bufferSize(n)
	if size < pooledMin || size > pooledMax {
		return make([]byte, 0, size)
	}
	if b, ok := p.classes[bufferClass(size)].Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, size)
}

// put takes a buffer back. Nothing may refer to it any more.
func (p *buffers) put(b []byte) {
	c := int64(cap(b))
	if c >= pooledMin && c <= pooledMax && bufferSize(c) == c {
		kept := b[:0] // a copy, so that b itself stays off the heap
		p.classes[bufferClass(c)].Put(&kept)
	}
}
