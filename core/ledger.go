package core

import (
	"context"
	"time"

	"github.com/sluice-gateway/sluice/core/llm"
)

// Ledger is where money moves. Reserve before upstream is called, settle or
// refund exactly once after. Implementations are safe for concurrent use.
type Ledger interface {
	// Reserve takes the bound of what a request may cost from the user and the
	// token. Where the balance does not cover the bound but covers the prompt,
	// all of it is taken. It fails with CodeUserQuota, CodeTokenQuota,
	// CodeModelPrice, or CodeStoreUnavailable (with RetryAfter) when the
	// database does not answer in time: then nothing was taken.
	Reserve(ctx context.Context, r ReserveRequest) (*Reservation, error)
	// Extend notes how far a running request is, so that a crash is settled by
	// what was produced. It returns at once and never fails the request.
	Extend(r *Reservation, so llm.Usage)
	// Settle books the actual usage, gives back the rest, and queues the log row.
	// It returns when the booking is durable, or queues it durably-in-memory for
	// retry when the database is away; it is then booked once it is back.
	Settle(ctx context.Context, r *Reservation, o Outcome) Charge
	// Refund gives everything back after a failure and logs the error if wanted.
	Refund(ctx context.Context, r *Reservation, o Outcome)
}

// ReserveRequest is what Reserve needs to know.
type ReserveRequest struct {
	RequestID string
	Snapshot  *Snapshot // prices and ratios are fixed by it
	User      *User
	Token     *Token // nil = charged to the user alone
	Group     string // the group that serves
	Model     string // as the client named it: prices use the original name
	Operation llm.Operation
	Input     int64  // estimated prompt tokens
	Output    int64  // bound of output tokens over all choices
	Choices   int64  // n: per-call prices are multiplied by it where the operation makes n things
	Size      string // image size, for per-call image prices
	Quality   string // image quality
	ChannelID int64  // the channel that will be tried first, if the relay says so
}

// Reservation is an amount taken and the price it was taken at.
type Reservation struct {
	ID       string // key of its lease; "" when nothing was taken (free model, billing off)
	Amount   int64  // units taken
	Request  ReserveRequest
	Price    Price
	Group    Ratio // group factor
	Special  bool  // the factor came from GroupGroupRatio
	Free     bool
	TokenHas bool // the token's balance is limited and was charged too

	// ChannelID is the channel that is being tried: at first that of the request.
	// What a crash leaves open is booked on it. Where another one is tried, set it
	// before Extend, by the same goroutine.
	ChannelID int64
	// State is the ledger's own; everybody else leaves it alone.
	State any
}

// Outcome is how a request ended.
type Outcome struct {
	Usage     llm.Usage
	Estimated bool // counted by us, not reported by upstream
	Channel   *Channel
	Sent      string  // the model name that was sent upstream
	Tried     []int64 // channels that were tried, in order
	Stream    bool
	Started   time.Time
	FirstByte time.Duration // 0 = none
	Duration  time.Duration
	IP        string
	Path      string
	EndReason string // done, client_gone, upstream_cut, timeout …
	Err       *Error // why it failed
	Status    int    // status given to the client
}

// Charge is what a settlement cost.
type Charge struct {
	Quota int64
}

// TokenSource finds the credential of an API key, from memory where it is known.
// An unknown key is CodeUnauthorized; CodeStoreUnavailable means that the key is
// not in memory and the database does not answer.
type TokenSource interface {
	Lookup(ctx context.Context, key string) (Credential, error)
}

// Counters count events in windows, for rate limits.
type Counters interface {
	// Take counts one event of key in a sliding window and reports whether it is
	// within limit, how many are left, and when the next one would be allowed.
	Take(ctx context.Context, key string, limit int64, window time.Duration) (CounterResult, error)
}

// CounterResult is the answer of Counters.Take.
type CounterResult struct {
	Allowed    bool
	Remaining  int64
	RetryAfter time.Duration
}
