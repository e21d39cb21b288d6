package relay

import (
	"context"
	"strings"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// reserveKey is what the bound of a reservation depends on. While it stays the
// same over attempts, so does the reservation.
type reserveKey struct {
	group                  string
	input, output, choices int64
	size, quality          string
}

// bound is the most output tokens that a request can be billed for.
func (x *exchange) bound(sent *llm.Request) int64 {
	switch x.op {
	case llm.OpEmbeddings, llm.OpModerations, llm.OpRerank, llm.OpEmbedContent, llm.OpBatchEmbed, llm.OpMessagesCount, llm.OpGeminiCount:
		return 0
	}
	out := sent.MaxOutput
	if out <= 0 {
		out = x.cfg.Billing.AssumedOutput
	}
	n := max(sent.Choices, 1)
	if out > core.MaxQuota/n {
		return core.MaxQuota
	}
	return out * n
}

// reserve takes what the request may cost, once for all attempts. It is taken
// anew where the group or what the channel's override asks for differs.
func (x *exchange) reserve(group string, sent *llm.Request) error {
	key := reserveKey{group: group, input: sent.Input, output: x.bound(sent), choices: max(sent.Choices, 1),
		size: sent.Image.Size, quality: sent.Image.Quality}
	if x.res != nil {
		if key == x.resKey {
			return nil
		}
		x.rl.o.Ledger.Refund(context.WithoutCancel(x.r.Context()), x.res, core.Outcome{})
		x.res = nil
	}
	res, err := x.rl.o.Ledger.Reserve(x.r.Context(), core.ReserveRequest{
		RequestID: core.RequestID(x.r.Context()),
		Snapshot:  x.snap,
		User:      x.cred.User,
		Token:     x.cred.Token,
		Group:     group,
		Model:     x.req.Model,
		Operation: x.op,
		Input:     sent.Input,
		Output:    key.output,
		Choices:   key.choices,
		Size:      strings.Clone(key.size),
		Quality:   strings.Clone(key.quality),
		ChannelID: x.channel.ID,
	})
	if err != nil {
		return err
	}
	x.res, x.resKey = res, key
	return nil
}

// settle books usage, exactly once. It returns when that is done, so the caller
// gives out the last byte after it.
func (x *exchange) settle(u llm.Usage, guessed bool, end string) {
	if x.booked || x.res == nil {
		return
	}
	x.booked, x.usage, x.guessed = true, u, guessed
	if x.end == "" {
		x.end = end
	}
	x.charge = x.rl.o.Ledger.Settle(context.WithoutCancel(x.r.Context()), x.res, x.outcome())
}

// refund gives everything back, exactly once.
func (x *exchange) refund() {
	if x.booked || x.res == nil {
		return
	}
	x.booked = true
	x.rl.o.Ledger.Refund(context.WithoutCancel(x.r.Context()), x.res, x.outcome())
}

func (x *exchange) outcome() core.Outcome {
	o := core.Outcome{
		Usage: x.usage, Estimated: x.guessed, Channel: x.channel, Sent: x.model, Tried: x.tried, Stream: x.streamed,
		Started: x.start, FirstByte: x.firstByte, Duration: x.rl.o.Now().Sub(x.start),
		Path: x.r.URL.Path, EndReason: x.end, Err: x.err, Status: x.status,
	}
	if ip := x.rl.o.ClientIP(x.r); ip.IsValid() {
		o.IP = ip.String()
	}
	return o
}

// produced is the usage of an answer that was not finished: what upstream
// reported so far, but no less output than what passed.
func produced(tap llm.Tap) llm.Usage {
	est := tap.Estimate()
	u, ok := tap.Usage()
	if !ok {
		return est
	}
	if u.Completion() < est.Completion() {
		u.Output += est.Completion() - u.Completion()
	}
	return u
}

// final is the usage of a finished answer, and whether it is an estimate.
func final(tap llm.Tap) (llm.Usage, bool) {
	if u, ok := tap.Usage(); ok {
		return u, false
	}
	return tap.Estimate(), true
}

// settleGiven bills what the client has of an answer that a panic ended.
func (x *exchange) settleGiven() {
	if !x.given || x.booked || x.res == nil || x.tap == nil {
		return
	}
	u := llm.Usage{Input: x.sent.Input}
	func() {
		defer func() { _ = recover() }() // it may be the tap that panics
		u = produced(x.tap)
	}()
	x.settle(u, true, endPanic)
}
