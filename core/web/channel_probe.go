package web

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/llm"
)

// The bounds of a run over all channels; one test is bounded by the client.
const (
	probesTimeout = 30 * time.Minute // of a run over all channels
	probesAtOnce  = 4
)

// probes is the one run over all channels that may be under way on this node.
// The zero value is ready; close ends a run and waits for it.
type probes struct {
	mu      sync.Mutex
	running bool
	closed  bool
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

// start runs fn in the background; false where a run is under way.
func (p *probes) start(fn func(ctx context.Context)) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running || p.closed {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), probesTimeout)
	p.running, p.cancel = true, cancel
	p.wg.Go(func() {
		defer func() {
			cancel()
			p.mu.Lock()
			p.running = false
			p.mu.Unlock()
		}()
		fn(ctx)
	})
	return true
}

func (p *probes) close() {
	p.mu.Lock()
	p.closed = true
	if p.cancel != nil {
		p.cancel()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Close ends what runs in the background and waits for it. Requests that are
// still served are not its business.
func (s *Server) Close() { s.probes.close() }

// probeView is outside the envelope, as New API's.
type probeView struct {
	Success   bool      `json:"success"`
	Message   string    `json:"message"`
	Time      float64   `json:"time"` // s
	ErrorCode core.Code `json:"error_code,omitempty"`
}

func (s *Server) testChannel(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	stream, err := c.queryBool("stream")
	if err != nil {
		return err
	}
	ch, err := s.o.Store.Channel(c.ctx(), id)
	if err != nil {
		return err
	}
	took, err := s.probe(c.ctx(), ch, c.query("model"), c.query("endpoint_type"), stream)
	v := probeView{Success: err == nil, Time: took.Seconds()}
	if err != nil {
		e := asError(err)
		v.Message, v.ErrorCode = e.Message, e.Code
		s.o.Logger.Info("channel test failed", "channel_id", id, "request_id", core.RequestID(c.ctx()), "code", string(e.Code), "error", err)
	}
	return c.json(http.StatusOK, v)
}

// testChannels tests all channels that are not disabled by hand, in the background.
func (s *Server) testChannels(c *call) error {
	id := core.RequestID(c.ctx())
	if !s.probes.start(func(ctx context.Context) { s.probeAll(ctx, id) }) {
		return c.conflict("a test of all channels is running already; wait for its end")
	}
	return c.ok(map[string]string{"task_id": id, "status": "running"})
}

func (s *Server) probeAll(ctx context.Context, task string) {
	var list []*core.Channel
	for _, ch := range s.snapshot().Channels {
		if ch.Status != core.ChannelDisabled {
			list = append(list, ch)
		}
	}
	slices.SortFunc(list, func(a, b *core.Channel) int { return int(a.ID - b.ID) })
	var wg sync.WaitGroup
	var mu sync.Mutex
	failed := 0
	slots := make(chan struct{}, probesAtOnce)
	for _, ch := range list {
		slots <- struct{}{} // comes free: every test ends at its time-out
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if _, err := s.probe(ctx, ch, "", "", false); err != nil {
				mu.Lock()
				failed++
				mu.Unlock()
				s.o.Logger.Warn("channel test failed", "channel_id", ch.ID, "task", task, "code", string(asError(err).Code), "error", err)
			}
		})
	}
	wg.Wait()
	s.o.Logger.Info("channels tested", "task", task, "channels", len(list), "failed", failed, "complete", ctx.Err() == nil)
}

// probe sends one small request through a channel and notes the response time.
// Model and endpoint type may be empty: the provider client then chooses.
func (s *Server) probe(ctx context.Context, ch *core.Channel, model, endpoint string, stream bool) (time.Duration, error) {
	op, err := operationOf(endpoint)
	if err != nil {
		return 0, err
	}
	took, err := s.o.Client.Test(ctx, ch, model, op, stream)
	if err != nil {
		return took, err
	}
	if err := s.o.Store.SetChannelTest(ctx, ch.ID, took, s.o.Now()); err != nil {
		s.o.Logger.Warn("response time not stored", "channel_id", ch.ID, "error", err)
	}
	return took, nil
}

// operationOf is the operation that New API's name of an endpoint type stands for.
func operationOf(endpoint string) (llm.Operation, error) {
	if endpoint == "" {
		return "", nil
	}
	var names []string
	for _, e := range endpointTypes {
		if e.name == endpoint {
			return e.op, nil
		}
		names = append(names, e.name)
	}
	return "", invalidField("endpoint_type", "must be one of "+strings.Join(names, ", "))
}

func (s *Server) fetchModels(c *call) error {
	id, err := c.id("id")
	if err != nil {
		return err
	}
	ch, err := s.o.Store.Channel(c.ctx(), id)
	if err != nil {
		return err
	}
	return s.replyModels(c, ch)
}

// fetchModelsOf asks an upstream that is not stored yet.
func (s *Server) fetchModelsOf(c *call) error {
	var body struct {
		BaseURL string `json:"base_url" validate:"max=2000"`
		Type    int    `json:"type" validate:"required"`
		Key     string `json:"key" validate:"max=60000"`
	}
	if err := c.bind(&body); err != nil {
		return err
	}
	ch := &core.Channel{Type: body.Type, Key: core.Secret(strings.Join(splitKeys(body.Key), "\n")), BaseURL: strings.TrimRight(strings.TrimSpace(body.BaseURL), "/"),
		Status: core.ChannelEnabled}
	if err := s.checkChannel(ch); err != nil {
		return err
	}
	return s.replyModels(c, ch)
}

func (s *Server) replyModels(c *call, ch *core.Channel) error {
	models, err := s.o.Client.Models(c.ctx(), ch)
	if err != nil {
		return err
	}
	if models == nil {
		models = []string{}
	}
	return c.ok(models)
}
