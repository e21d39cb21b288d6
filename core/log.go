package core

import (
	"time"
)

// LogType is New API's number.
type LogType int

// The types of usage log rows that this system writes.
const (
	LogTopUp   LogType = 1
	LogConsume LogType = 2
	LogManage  LogType = 3
	LogSystem  LogType = 4
	LogError   LogType = 5
	LogRefund  LogType = 6
)

// UsageLog is one row of the usage log. The shape is New API's.
type UsageLog struct {
	ID               int64
	At               time.Time
	Type             LogType
	UserID           int64
	Username         string
	TokenID          int64
	TokenName        string
	ChannelID        int64
	Model            string
	Group            string
	Quota            int64
	PromptTokens     int64
	CompletionTokens int64
	UseTime          time.Duration
	Stream           bool
	IP               string // only where the user asked for it
	RequestID        string
	Content          string
	Other            string // JSON object, spec'd by New API's `other`
}

// LogFilter selects rows of the usage log. Zero values select all.
type LogFilter struct {
	Type      LogType
	UserID    int64
	Username  string
	TokenID   int64
	TokenName string
	Model     string
	ChannelID int64
	Group     string
	RequestID string
	From, To  time.Time // To is inclusive, as New API's end_timestamp
}

// LogStat sums rows: New API's /api/log/stat. RPM and TPM count the last 60 s.
type LogStat struct {
	Quota, RPM, TPM int64
}

// Audit is one row of the audit log: an administrative change. It is written
// in the transaction that it describes.
type Audit struct {
	ID     int64
	At     time.Time
	Actor  Actor
	Kind   Kind
	Entity string
	Op     Op
	Detail string // JSON: names of the changed fields, never secrets
	Rev    Revision
}

// UsageSink takes rows of the usage log. Append never blocks on the database.
type UsageSink interface {
	Append(row UsageLog)
}
