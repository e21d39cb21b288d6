package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/sluice-gateway/sluice/core"
)

// retryAfter is what a client is told to wait when the database is away.
const retryAfter = 2 * time.Second

// Numbers of server errors. A transaction that failed with one of the first
// list was rolled back and may run again; the second means that the server does
// not serve now.
var (
	mysqlRetry       = []uint16{1213, 1205, 1020, 1047}
	mysqlUnavailable = []uint16{1040, 1044, 1045, 1049, 1053, 1129, 1130, 1152, 1158, 1159, 1160, 1161, 1203, 1226, 1290, 1317, 1792, 1836, 1927, 1969, 3024, 1213, 1205, 1020, 1047}
)

const (
	sqliteBusy, sqliteLocked                         = 5, 6
	sqliteReadonly, sqliteInterrupt, sqliteIOErr     = 8, 9, 10
	sqliteFull, sqliteCantOpen, sqliteProtocol       = 13, 14, 15
	sqliteConstraint                                 = 19
	sqliteConstraintUnique, sqliteConstraintPK   int = 2067, 1555
)

// errAgain asks inTx to run the transaction again: another one inserted the
// row between look and insert.
var errAgain = errors.New("row appeared meanwhile")

// sqliteCode is the extended result code of SQLite's driver.
func sqliteCode(err error) int {
	var e interface {
		error
		Code() int
	}
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

func mysqlNumber(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

func retryable(err error) bool {
	if errors.Is(err, errAgain) || slices.Contains(mysqlRetry, mysqlNumber(err)) {
		return true
	}
	c := sqliteCode(err) & 0xff
	return c == sqliteBusy || c == sqliteLocked
}

// duplicate reports whether err is a unique violation.
func duplicate(err error) bool {
	c := sqliteCode(err)
	return mysqlNumber(err) == 1062 || c == sqliteConstraintUnique || c == sqliteConstraintPK
}

// notServing reports whether err means that the database cannot be asked now,
// and not that the question was wrong.
func notServing(err error) bool {
	if slices.Contains(mysqlUnavailable, mysqlNumber(err)) {
		return true
	}
	switch sqliteCode(err) & 0xff {
	case sqliteBusy, sqliteLocked, sqliteReadonly, sqliteInterrupt, sqliteIOErr, sqliteFull, sqliteCantOpen, sqliteProtocol:
		return true
	}
	for _, e := range []error{context.DeadlineExceeded, driver.ErrBadConn, mysql.ErrInvalidConn, sql.ErrConnDone, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, errAgain} {
		if errors.Is(err, e) {
			return true
		}
	}
	var n net.Error
	return errors.As(err, &n)
}

func unavailable(err error) error {
	e := core.WrapError(core.CodeStoreUnavailable, err, "the database does not answer; try again in a moment")
	e.RetryAfter = retryAfter
	return e
}

// wrap gives err the name of what was being done and, where the database is
// away, its code. Errors that already have a code keep it.
func (s *Store) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *core.Error
	switch {
	case errors.As(err, &known):
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("store: %s: %w", op, err)
	case s.closed.Load() || notServing(err):
		err = unavailable(fmt.Errorf("%s: %w", op, err))
	default:
		err = fmt.Errorf("store: %s: %w", op, err)
	}
	if s.onError != nil && (known == nil || known.Code == core.CodeStoreUnavailable) {
		s.onError(op, err)
	}
	return err
}

func notFound(what string) error { return core.Errorf(core.CodeNotFound, "%s not found", what) }

// missing turns "no rows" into CodeNotFound.
func missing(err error, what string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return notFound(what)
	}
	return err
}

func conflict(field, format string, args ...any) error {
	e := core.Errorf(core.CodeConflict, format, args...)
	e.Param = field
	return e
}

func invalid(field, format string, args ...any) error {
	e := core.Errorf(core.CodeInvalidRequest, "%s: %s", field, fmt.Sprintf(format, args...))
	e.Param = field
	return e
}

// checkText bounds a text by the width of its column, in characters: MySQL
// would refuse it, SQLite would not.
func checkText(field, text string, limit int) error {
	if n := utf8.RuneCountInString(text); n > limit {
		return invalid(field, "%d characters, at most %d are kept", n, limit)
	}
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		return invalid(field, "is not text: it has a NUL or is not UTF-8")
	}
	return nil
}

// checkIdentity is checkText for a text that is compared as an identity. The
// binary collations of MySQL ignore blanks at the end, SQLite's does not, so
// no identity may have any.
func checkIdentity(field, text string, limit int) error {
	if err := checkText(field, text, limit); err != nil {
		return err
	}
	if text == "" {
		return invalid(field, "must not be empty")
	}
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			return invalid(field, "must not have control characters")
		}
	}
	if text[0] == ' ' || text[len(text)-1] == ' ' {
		return invalid(field, "must not begin or end with a blank")
	}
	return nil
}

// clip makes a text that only informs fit its column: UTF-8 without NUL, and cut
// to the width.
func clip(text string, limit int) string {
	if !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0 {
		text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	}
	if len(text) <= limit {
		return text
	}
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit])
}
