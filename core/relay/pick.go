package relay

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/provider"
)

// choice is the channel of one attempt.
type choice struct {
	channel *core.Channel
	row     *provider.Row
	group   string
	probing bool          // the attempt is the probe of a half-open breaker
	wait    time.Duration // upstream asked to wait that long before it is tried again
}

// picker draws channels for one request. A channel that failed is not drawn
// again, with one exception: where it only asked for patience (429 or 503 with a
// Retry-After within relay.retry_max_wait) and no other channel is left, it is
// waited for.
//
// An attempt does not move to the next tier by its number: each one takes the
// highest tier that has a channel left.
type picker struct {
	x        *exchange
	groups   []string // in the order of trial; more than one for auto
	at       int      // the current one
	excluded []int64
	later    []patient
	attempts int // in the current group
	tried    bool
}

// patient is a channel that asked to be tried again at a time.
type patient struct {
	channel *core.Channel
	at      time.Time
}

// candidates are the channels that serve model for group: those that list it or,
// as New API has it for names that hold an id or a budget, its family.
func candidates(s *core.Snapshot, group, model string) []*core.Tier {
	if t := s.Candidates(group, model); t != nil {
		return t
	}
	if f := family(model); f != "" {
		return s.Candidates(group, f)
	}
	return nil
}

// family is the name under which channels and tokens list all models of a kind,
// "" for the usual names.
func family(model string) string {
	for _, prefix := range [...]string{"gpt-4-gizmo-", "gpt-4o-gizmo-"} {
		if strings.HasPrefix(model, prefix) {
			return prefix + "*"
		}
	}
	for _, base := range [...]string{"gemini-2.5-flash-lite", "gemini-2.5-flash", "gemini-2.5-pro"} {
		if rest, ok := strings.CutPrefix(model, base); ok && strings.Contains(rest, "-thinking-") {
			return base + "-thinking-*"
		}
	}
	return ""
}

// allowsModel reports whether a token may use model, by its name or its family's.
func allowsModel(t *core.Token, model string) bool {
	if t.AllowsModel(model) {
		return true
	}
	f := family(model)
	return f != "" && t.AllowsModel(f)
}

// checkGroup refuses a token whose group its owner may not use, or that is no
// longer offered.
func checkGroup(s *core.Snapshot, cred core.Credential) error {
	user, g := cred.User, cred.Token.Group
	switch {
	case g == "", g == user.Group, g == core.GroupAuto:
		return nil
	case !s.GroupUsable(user.Group, g):
		return core.Errorf(core.CodeAccessDenied, "This API key's group %q may not be used by this account.", clip(g, 64))
	}
	if row := s.Groups[g]; row == nil || !row.HasRatio {
		return core.Errorf(core.CodeAccessDenied, "This API key's group %q is no longer offered. Choose another one for the key.", clip(g, 64))
	}
	return nil
}

// groupsOf lists the groups whose channels the token may use for model, in the
// order of trial: one, or for auto those of AutoGroups that the user may use and
// that have a channel for model. An empty model stands for any.
func groupsOf(s *core.Snapshot, cred core.Credential, model string) []string {
	user, g := cred.User, cred.Token.Group
	switch g {
	case "":
		return []string{user.Group}
	case core.GroupAuto:
	default:
		return []string{g}
	}
	var out []string
	for _, g := range s.Options.AutoGroups {
		if g != core.GroupAuto && s.GroupUsable(user.Group, g) && !slices.Contains(out, g) && (model == "" || len(candidates(s, g, model)) > 0) {
			out = append(out, g)
		}
	}
	return out
}

// next draws the channel of the next attempt. done is true when there is none
// and err, if any, is what to tell when nothing was tried yet.
func (p *picker) next(retries int) (c choice, ok bool, err error) {
	x := p.x
	if x.pinned != 0 {
		return p.pinnedChannel()
	}
	for p.at < len(p.groups) {
		if p.attempts <= retries {
			if c, ok, err = p.inGroup(p.groups[p.at]); ok {
				p.attempts++
				p.tried = true
				return c, true, nil
			}
		}
		// The first group that has a channel for the model is the one; a later retry
		// moves on only where the token says so.
		if p.tried && !x.cred.Token.CrossGroupRetry {
			break
		}
		p.at, p.attempts = p.at+1, 0
	}
	if err == nil && !p.tried {
		err = errNoChannel(x.req.Model)
	}
	return choice{}, false, err
}

func errNoChannel(model string) *core.Error {
	return core.Errorf(core.CodeModelNotFound, "No channel of this API key's group serves the model %q. Check the name, or ask the operator to add a channel for it.", clip(model, 128))
}

func (p *picker) pinnedChannel() (choice, bool, error) {
	x := p.x
	if p.tried {
		return choice{}, false, nil
	}
	p.tried = true
	c := x.snap.Channels[x.pinned]
	switch {
	case c == nil:
		return choice{}, false, core.Errorf(core.CodeInvalidRequest, "There is no channel %d.", x.pinned)
	case !c.Enabled():
		return choice{}, false, core.Errorf(core.CodeAccessDenied, "Channel %d is disabled.", x.pinned)
	}
	row, ok := x.rl.o.Providers.Row(c.Type)
	if !ok || !row.Supports(x.op) {
		return choice{}, false, errNoFormat(x)
	}
	group := x.cred.User.Group
	if len(p.groups) > 0 {
		group = p.groups[0]
	}
	return choice{channel: c, row: row, group: group}, true, nil
}

func errNoFormat(x *exchange) *core.Error {
	e := core.Errorf(core.CodeConvert, "No channel that serves the model %q takes %s requests. Use a route of the model's own API.", clip(x.req.Model, 128), x.op)
	return e
}

// inGroup draws from one group.
func (p *picker) inGroup(group string) (choice, bool, error) {
	x := p.x
	rl, now, breaker := x.rl, x.rl.o.Now(), &x.cfg.Relay.Breaker
	var probing, wrongFormat bool
	var oldest *core.Channel // open, and for the longest time
	var oldestAt time.Time
	accept := func(c *core.Channel) bool {
		if len(p.excluded) > 0 && slices.Contains(p.excluded, c.ID) {
			return false
		}
		if row, ok := rl.o.Providers.Row(c.Type); !ok || !row.Supports(x.op) {
			wrongFormat = true
			return false
		}
		ok, probe, openAt := rl.breakers.allow(c, breaker, now)
		if !ok && (oldest == nil || openAt.Before(oldestAt)) {
			oldest, oldestAt = c, openAt
		}
		probing = probe
		return ok
	}
	tiers := candidates(x.snap, group, x.req.Model)
	for i := 0; i < len(tiers); i++ {
		c := tiers[i].Pick(rl.rand, accept)
		if c == nil {
			continue
		}
		// Pick may have asked about others after the one that it returns.
		if _, probing, _ = rl.breakers.allow(c, breaker, now); probing && !rl.breakers.startProbe(c, breaker, now) {
			i-- // another request was faster: it is not allowed any more
			continue
		}
		return p.choose(c, group, probing, 0), true, nil
	}
	if oldest != nil && !p.tried {
		return p.choose(oldest, group, false, 0), true, nil
	}
	if c, ok := p.waitFor(group, now); ok {
		return c, true, nil
	}
	if wrongFormat && !p.tried {
		return choice{}, false, errNoFormat(x)
	}
	return choice{}, false, nil
}

func (p *picker) choose(c *core.Channel, group string, probing bool, wait time.Duration) choice {
	row, _ := p.x.rl.o.Providers.Row(c.Type)
	return choice{channel: c, row: row, group: group, probing: probing, wait: wait}
}

// waitFor takes the channel that may be tried again first.
func (p *picker) waitFor(group string, now time.Time) (choice, bool) {
	best := -1
	for i, l := range p.later {
		if slices.Contains(l.channel.Groups, group) && (best < 0 || l.at.Before(p.later[best].at)) {
			best = i
		}
	}
	if best < 0 {
		return choice{}, false
	}
	l := p.later[best]
	p.later = slices.Delete(p.later, best, best+1)
	return p.choose(l.channel, group, false, max(l.at.Sub(now), time.Millisecond)), true
}

// exclude takes a channel out of the rest of the request.
func (p *picker) exclude(c choice, retryAfter, maxWait time.Duration) {
	p.excluded = append(p.excluded, c.channel.ID)
	if retryAfter > 0 && retryAfter <= maxWait {
		p.later = append(p.later, patient{c.channel, p.x.rl.o.Now().Add(retryAfter)})
	}
}

const (
	backoffBase = 25 * time.Millisecond
	backoffMax  = time.Second
)

// backoff is the pause before attempt n (from 1): short, since it goes to another
// channel, and drawn at random, so that a burst that failed together does not
// come back together.
func (rl *Relay) backoff(n int) time.Duration {
	d := min(backoffBase<<min(n-1, 10), backoffMax)
	return d/2 + time.Duration(rl.rand.Int64N(int64(d/2)))
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
