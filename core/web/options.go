package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/llm"
	"github.com/sluice-gateway/sluice/core/provider"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

// Relay is what web needs of core/relay.
type Relay interface {
	// Serve answers one relayed request, errors included. pathModel is the
	// model of the URL where the format puts it there, else "".
	Serve(w http.ResponseWriter, r *http.Request, op llm.Operation, pathModel string)
	// Models answers a list of models, or the one that model names, in format.
	Models(w http.ResponseWriter, r *http.Request, format llm.Format, model string)
	// Authenticate finds the credential of a request. Where the key is known but
	// the token may not be used (expired, exhausted), it returns the credential
	// together with the error, so that a read-only route can show it.
	Authenticate(r *http.Request) (cred core.Credential, pinnedChannel int64, err error)
}

// ProviderClient calls upstreams on behalf of an administrator.
type ProviderClient interface {
	// Models asks the channel's upstream for its models.
	Models(ctx context.Context, ch *core.Channel) ([]string, error)
	// Test sends one small request and tells how long it took.
	Test(ctx context.Context, ch *core.Channel, model string, op llm.Operation, stream bool) (time.Duration, error)
}

// Check is one named condition of readiness. Without a required one that is OK,
// the node takes no traffic; the others are only shown. Detail is shown to anyone:
// no addresses, no secrets.
type Check struct {
	Name     string
	OK       bool
	Required bool
	Detail   string
}

// Options are what a Server is made of. All are required but for those that say so.
type Options struct {
	Store          *store.Store
	Keys           *store.Keyring // hashes access tokens
	Relay          Relay
	Codecs         llm.Codecs // write errors in the caller's format
	Snapshot       func() *core.Snapshot
	Prices         map[string]*core.Price // the built-in price list
	Config         func() *config.Config
	Providers      *provider.Catalogue
	Client         ProviderClient
	Ready          func(ctx context.Context) []Check
	Counters       core.Counters
	Node           core.Node
	Version        string
	Logger         *slog.Logger
	Metrics        *telemetry.Metrics // optional
	MetricsHandler http.Handler       // optional: /metrics on this listener, given metrics.token
	Now            func() time.Time   // optional: time.Now
}
