package llm

import (
	"bytes"
	"errors"
	"io"
)

// ErrFrameTooLong is a frame over the reader's limit.
var ErrFrameTooLong = errors.New("a frame of the stream is over the limit")

// Splitter cuts a byte stream into frames. It keeps its place, so that a frame
// that arrives in pieces is scanned once.
type Splitter interface {
	// Next finds the first whole frame of buf. size is its length with all that
	// parts it from the next one; 0 = not whole yet. payload is what a tap reads,
	// nil for a frame without one (comments, brackets); it is valid until the next
	// call. After size 0 the next call gets the same bytes with more behind them,
	// otherwise the bytes behind the frame.
	Next(buf []byte) (size int, payload []byte)
	// Rest judges what is left at the end of the stream. payload is that of a
	// last frame without its end mark; whole reports that nothing is missing.
	Rest(buf []byte) (payload []byte, whole bool)
}

// NewSplitter makes the splitter of a framing, nil for FrameNone.
func NewSplitter(f Framing) Splitter {
	switch f {
	case FrameSSE:
		return &SSESplitter{}
	case FrameArray:
		return &ArraySplitter{}
	}
	return nil
}

// joinKept is the size from which a splitter's buffer for joined lines is let go.
const joinKept = 64 << 10

// SSESplitter cuts text/event-stream at blank lines. Lines end with LF, CRLF or
// CR; a byte order mark at the very beginning is skipped; lines before a blank
// line that hold no data make a frame without payload.
type SSESplitter struct {
	line  int  // where the line under way begins
	scan  int  // where to go on looking for its end
	lf    bool // a CR came last: an LF at line belongs to it
	begun bool // past the place of a byte order mark
	data  int  // data lines of the frame so far
	value [2]int
	join  []byte // several data lines, LF between
}

// Next implements Splitter.
func (s *SSESplitter) Next(buf []byte) (int, []byte) {
	for {
		if s.lf && s.line < len(buf) {
			if buf[s.line] == '\n' {
				s.line++
			}
			s.lf, s.scan = false, s.line
		}
		end := lineEnd(buf, s.scan)
		if end < 0 {
			s.scan = max(s.scan, len(buf))
			return 0, nil
		}
		next := end + 1
		if buf[end] == '\r' {
			if next == len(buf) {
				s.lf = true
			} else if buf[next] == '\n' {
				next++
			}
		}
		blank := s.note(buf, end)
		s.line, s.scan = next, next
		if blank {
			return next, s.take(buf)
		}
	}
}

// lineEnd is the index of the next CR or LF, -1 without.
func lineEnd(buf []byte, from int) int {
	if from >= len(buf) {
		return -1
	}
	rest := buf[from:]
	n := bytes.IndexByte(rest, '\n')
	if n >= 0 {
		rest = rest[:n]
	}
	if r := bytes.IndexByte(rest, '\r'); r >= 0 {
		n = r
	}
	if n < 0 {
		return -1
	}
	return from + n
}

// note reads the line that ends at end and reports whether it is blank.
func (s *SSESplitter) note(buf []byte, end int) bool {
	from := s.line
	if !s.begun {
		if bytes.HasPrefix(buf[from:end], []byte("\xef\xbb\xbf")) {
			from += 3
		}
		s.begun = true
	}
	if end == from {
		return true
	}
	line := buf[from:end]
	if len(line) < 4 || string(line[:4]) != "data" {
		return false
	}
	switch {
	case len(line) == 4:
		from = end
	case line[4] != ':':
		return false
	case len(line) > 5 && line[5] == ' ':
		from += 6
	default:
		from += 5
	}
	switch s.data++; s.data {
	case 1:
		if cap(s.join) > joinKept {
			s.join = nil
		}
		s.value = [2]int{from, end}
	case 2:
		s.join = append(append(s.join[:0], buf[s.value[0]:s.value[1]]...), '\n')
		s.join = append(s.join, buf[from:end]...)
	default:
		s.join = append(append(s.join, '\n'), buf[from:end]...)
	}
	return false
}

// take returns the payload of the frame and makes ready for the next one.
func (s *SSESplitter) take(buf []byte) []byte {
	var payload []byte
	switch {
	case s.data == 1:
		payload = buf[s.value[0]:s.value[1]:s.value[1]]
	case s.data > 1:
		payload = s.join
	}
	s.line, s.scan, s.data = 0, 0, 0
	return payload
}

// Rest implements Splitter.
func (s *SSESplitter) Rest(buf []byte) ([]byte, bool) {
	if s.lf && s.line == 0 && len(buf) > 0 && buf[0] == '\n' {
		s.line, s.lf = 1, false
	}
	if len(buf) == 0 || s.line == len(buf) && s.line <= 1 && s.data == 0 {
		return nil, true
	}
	if s.line < len(buf) {
		s.note(buf, len(buf))
	}
	return s.take(buf), false
}

// ArraySplitter cuts a JSON array into its elements. What stands before an
// element (the bracket, the comma, white space) belongs to its frame; an element
// that is no object or array has no payload. A lone object, as an error body is,
// is one frame.
type ArraySplitter struct {
	scan   int
	begin  int // of the element under way
	depth  int // brackets open inside the array; 0 = between elements
	bare   bool
	open   bool
	closed bool
	quoted bool // inside a string
	quote  int  // where that began
}

// Next implements Splitter.
func (s *ArraySplitter) Next(buf []byte) (int, []byte) {
	for s.scan < len(buf) {
		if s.quoted {
			if !s.unquote(buf) {
				return 0, nil
			}
			continue
		}
		c := buf[s.scan]
		s.scan++
		switch c {
		case '"':
			s.quoted, s.quote = true, s.scan
		case '{', '[':
			if !s.open && !s.closed && s.depth == 0 {
				if s.open = true; c == '[' {
					continue
				}
				s.bare = true
			}
			if s.depth == 0 {
				s.begin = s.scan - 1
			}
			s.depth++
		case '}', ']':
			if s.depth == 0 {
				s.closed, s.open = true, false
				return s.cut(), nil
			}
			if s.depth--; s.depth == 0 {
				if s.bare {
					s.closed, s.open = true, false
				}
				payload := buf[s.begin:s.scan:s.scan]
				return s.cut(), payload
			}
		}
	}
	return 0, nil
}

// unquote goes behind the string under way; false when it goes on.
func (s *ArraySplitter) unquote(buf []byte) bool {
	for {
		i := bytes.IndexByte(buf[s.scan:], '"')
		if i < 0 {
			s.scan = len(buf)
			return false
		}
		at := s.scan + i
		s.scan = at + 1
		n := at
		for n > s.quote && buf[n-1] == '\\' {
			n--
		}
		if (at-n)%2 == 0 {
			s.quoted = false
			return true
		}
	}
}

func (s *ArraySplitter) cut() int {
	size := s.scan
	s.scan = 0
	return size
}

// Rest implements Splitter.
func (s *ArraySplitter) Rest(buf []byte) ([]byte, bool) {
	return nil, s.closed && len(bytes.TrimSpace(buf)) == 0
}

// The sizes of a reader's buffer. It grows only for a frame that needs it, and
// shrinks after that.
const (
	readerSize = 4 << 10
	readerKept = 64 << 10
)

// Frame is one frame of a stream. Its slices are valid until the reader's next
// call of Next or Ready.
type Frame struct {
	Raw        []byte // as received, end mark included
	Data       []byte // what a tap reads; nil without
	Incomplete bool   // the stream ended before the frame's end mark
}

// FrameReader reads the frames of a stream: each one is returned as soon as its
// last byte was read, and no byte is changed or lost.
type FrameReader struct {
	r     io.Reader
	s     Splitter
	limit int64
	buf   []byte
	start int // of the frame under way
	end   int // of what was read
	size  int // of the frame last returned
	ready Frame
	has   bool // ready is the next frame
	err   error
	over  bool // what stood before the end was returned
}

// NewSSEReader reads server-sent events with frames of at most limit bytes.
func NewSSEReader(r io.Reader, limit int64) *FrameReader {
	return NewFrameReader(r, &SSESplitter{}, limit)
}

// NewArrayReader reads the elements of a JSON array of at most limit bytes each.
func NewArrayReader(r io.Reader, limit int64) *FrameReader {
	return NewFrameReader(r, &ArraySplitter{}, limit)
}

// NewFrameReader reads frames with any splitter.
func NewFrameReader(r io.Reader, s Splitter, limit int64) *FrameReader {
	return &FrameReader{r: r, s: s, limit: limit}
}

// Next returns the next frame. After the last one it returns io.EOF; after an
// incomplete one, or where an array has no closing bracket, io.ErrUnexpectedEOF;
// or the error of the reader, or ErrFrameTooLong.
func (f *FrameReader) Next() (Frame, error) {
	for {
		if f.Ready() {
			f.has = false
			f.size = len(f.ready.Raw)
			return f.ready, nil
		}
		if f.err != nil {
			return f.last()
		}
		f.fill()
	}
}

// Ready reports whether the next frame was read already, so that Next will not
// wait. It gives up the frame before.
func (f *FrameReader) Ready() bool {
	if f.has || f.over {
		return f.has
	}
	f.start += f.size
	f.size = 0
	size, payload := f.s.Next(f.buf[f.start:f.end])
	if size == 0 {
		return false
	}
	f.ready, f.has = Frame{Raw: f.buf[f.start : f.start+size : f.start+size], Data: payload}, true
	return true
}

// last returns what stands before the end, then the end.
func (f *FrameReader) last() (Frame, error) {
	rest := f.buf[f.start:f.end]
	if f.over || errors.Is(f.err, ErrFrameTooLong) {
		return Frame{}, f.err
	}
	f.over, f.start = true, f.end
	payload, whole := f.s.Rest(rest)
	if !whole && errors.Is(f.err, io.EOF) {
		f.err = io.ErrUnexpectedEOF
	}
	if len(rest) == 0 {
		return Frame{}, f.err
	}
	return Frame{Raw: rest, Data: payload, Incomplete: !whole}, nil
}

// fill reads once, with room made before.
func (f *FrameReader) fill() {
	n := f.end - f.start
	switch {
	case int64(n) >= f.limit:
		f.err = ErrFrameTooLong
		return
	case f.buf == nil:
		f.buf = make([]byte, min(readerSize, max(f.limit, 1)))
	case len(f.buf) > readerKept && n <= readerSize/2:
		small := make([]byte, readerSize)
		copy(small, f.buf[f.start:f.end])
		f.buf, f.start, f.end = small, 0, n
	case n == 0:
		f.start, f.end = 0, 0
	case f.end == len(f.buf) && f.start > 0:
		copy(f.buf, f.buf[f.start:f.end])
		f.start, f.end = 0, n
	case f.end == len(f.buf):
		grown := make([]byte, min(int64(len(f.buf))*2, f.limit))
		copy(grown, f.buf)
		f.buf = grown
	}
	for range 100 {
		n, err := f.r.Read(f.buf[f.end:])
		f.end += n
		if f.err = err; n > 0 || err != nil {
			return
		}
	}
	f.err = io.ErrNoProgress
}
