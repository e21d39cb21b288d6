// Package ledger moves money: it quotes what usage costs, reserves it before
// upstream is called, settles or refunds it after, and queues the rows of the
// usage log. It implements core.Ledger and core.UsageSink.
//
// This is the direct mode: a reservation is a row in the database, taken and
// booked in one transaction each. It must not know how requests arrive or how
// upstreams are spoken to, and holds no SQL.
//
// Low balances. A request whose bound is not covered, but whose prompt is, gets
// all that is left. What it then costs above that is booked against the balance,
// which may fall below zero by at most the bound of that one request: while all
// of a balance is taken, no second request of the account is let in.
//
// Free requests (a price or group factor of zero, token counting) touch the
// database only for counters, in the background. Tools that vendors bill apart
// are free too when the model is.
package ledger
