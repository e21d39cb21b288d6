package relay

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

// Options are what a Relay is made of. All are required but Now and Rand.
type Options struct {
	Snapshot  func() *core.Snapshot
	Tokens    core.TokenSource
	Ledger    core.Ledger
	Codecs    llm.Codecs
	Providers *provider.Catalogue
	Transport *provider.Transport
	Config    func() *config.Config
	// Describe puts an error into the words of a format: status and type.
	Describe func(llm.Format, *core.Error) llm.Error
	// ClientIP is the address of the client, trusted proxies looked through. The
	// zero Addr is unknown.
	ClientIP func(*http.Request) netip.Addr
	Logger   *slog.Logger
	Metrics  *telemetry.Metrics
	Now      func() time.Time // nil = time.Now
	Rand     *rand.Rand       // nil = seeded by the runtime; given, it must be safe for concurrent use
}

// Relay serves relay routes. It is safe for concurrent use.
type Relay struct {
	o        Options
	rand     *rand.Rand
	budget   budget
	buffers  buffers
	breakers breakers
	meters   meters
}

// New makes a Relay.
func New(o Options) *Relay {
	if o.Now == nil {
		o.Now = time.Now
	}
	rl := &Relay{o: o, rand: o.Rand, meters: newMeters(o.Metrics)}
	if rl.rand == nil {
		rl.rand = rand.New(runtimeSource{})
	}
	rl.breakers.opened = func(channel int64, open bool) { rl.countBreaker(channel, open) }
	return rl
}

// runtimeSource is the runtime's own generator: per thread, without a lock.
type runtimeSource struct{}

func (runtimeSource) Uint64() uint64 { return rand.Uint64() }
