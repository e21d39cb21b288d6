package relay

import (
	"bytes"

	"github.com/tidwall/gjson"

	"github.com/sluice-gateway/sluice/core/llm"
)

// splitter cuts a byte stream into frames. It keeps its place, so that a frame
// that arrives in pieces is scanned once.
type splitter interface {
	// next finds the first whole frame of buf. size is its length with everything
	// that parts it from the next one; 0 = not whole yet. payload is what the tap
	// reads, nil for frames without one (comments, brackets). When size is 0 the
	// next call gets the same bytes with more behind them, otherwise the bytes
	// behind the frame.
	next(buf []byte) (size int, payload []byte)
	// rest judges what is left when the stream ends: a frame whose end mark alone
	// is missing is whole, and mark is what to send after it.
	rest(buf []byte) (payload []byte, mark string, whole bool)
}

func newSplitter(f llm.Framing) splitter {
	if f == llm.FrameArray {
		return &arraySplitter{}
	}
	return &sseSplitter{}
}

// sseSplitter cuts text/event-stream at blank lines. Lines end with LF or CRLF;
// the lone CR that the standard knows as well is used by no vendor.
type sseSplitter struct {
	line  int // where the line under way begins
	scan  int // where to go on looking for its end
	data  int // data lines of the frame so far
	value [2]int
	join  []byte // more than one data line: their values with LF between
}

func (s *sseSplitter) next(buf []byte) (int, []byte) {
	for {
		i := bytes.IndexByte(buf[s.scan:], '\n')
		if i < 0 {
			s.scan = len(buf)
			return 0, nil
		}
		end := s.scan + i
		blank := s.note(buf, end)
		s.line, s.scan = end+1, end+1
		if blank {
			return end + 1, s.take(buf)
		}
	}
}

// note reads the line that ends at end and reports whether it is blank.
func (s *sseSplitter) note(buf []byte, end int) bool {
	from := s.line
	if end > from && buf[end-1] == '\r' {
		end--
	}
	if end == from {
		return true
	}
	if !bytes.HasPrefix(buf[from:end], dataField) {
		return false
	}
	from += len(dataField)
	if from < end && buf[from] == ' ' {
		from++
	}
	switch s.data++; s.data {
	case 1:
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
func (s *sseSplitter) take(buf []byte) []byte {
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

func (s *sseSplitter) rest(buf []byte) (payload []byte, mark string, whole bool) {
	if len(bytes.TrimSpace(buf)) == 0 {
		return nil, "", true
	}
	mark = "\n\n"
	if s.line < len(buf) {
		s.note(buf, len(buf))
	} else {
		mark = "\n"
	}
	payload = s.take(buf)
	if payload == nil {
		return nil, mark, buf[0] == ':'
	}
	return payload, mark, string(payload) == doneWord || gjson.ValidBytes(payload)
}

var dataField = []byte("data:")

// doneWord ends OpenAI's streams.
const doneWord = "[DONE]"

// arraySplitter cuts a JSON array into its elements. What stands before an
// element (the bracket, the comma, white space) belongs to its frame.
type arraySplitter struct {
	scan   int
	begin  int // of the element under way
	depth  int // brackets open inside the array; 0 = between elements
	open   bool
	closed bool
	quoted bool // inside a string
	escape bool // the next byte is escaped
}

func (s *arraySplitter) next(buf []byte) (int, []byte) {
	for s.scan < len(buf) {
		c := buf[s.scan]
		s.scan++
		switch {
		case s.quoted:
			switch {
			case s.escape:
				s.escape = false
			case c == '\\':
				s.escape = true
			case c == '"':
				s.quoted = false
			}
		case c == '"':
			s.quoted = true
		case c == '[' && !s.open:
			s.open = true
		case c == '{' || c == '[':
			if s.depth == 0 {
				s.begin = s.scan - 1
			}
			s.depth++
		case c == ']' && s.depth == 0:
			s.closed = true
			size := s.scan
			s.scan = 0
			return size, nil
		case c == '}' || c == ']':
			if s.depth--; s.depth == 0 {
				size, payload := s.scan, buf[s.begin:s.scan:s.scan]
				s.scan = 0
				return size, payload
			}
		}
	}
	return 0, nil
}

func (s *arraySplitter) rest(buf []byte) (payload []byte, mark string, whole bool) {
	// Some answer with one object in place of the array.
	return nil, "", (s.closed || !s.open) && len(bytes.TrimSpace(buf)) == 0
}
