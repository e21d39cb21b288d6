package config

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestReload(t *testing.T) {
	old := load(t, Sources{})
	h := NewHolder(old)
	next := load(t, Sources{Env: []string{"STREAMING_TIMEOUT=7", "PORT=1", "DEBUG=true", "SQLITE_PATH=/x/y", "CRITICAL_RATE_LIMIT=3", "NODE_NAME=" + old.Node.Name}})
	changes, err := h.Reload(next)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"relay.idle_timeout", "rate_limit.critical.limit", "log.level"}; !slices.Equal(changes.Applied, want) {
		t.Errorf("applied %v, want %v", changes.Applied, want)
	}
	if want := []string{"server.listen", "database.sqlite_path"}; !slices.Equal(changes.NeedRestart, want) {
		t.Errorf("need restart %v, want %v", changes.NeedRestart, want)
	}
	now := h.Get()
	if now.Relay.IdleTimeout != 7*time.Second || now.Server.Listen != ":3000" || now.Origin("relay.idle_timeout").Name != "STREAMING_TIMEOUT" ||
		now.Origin("server.listen").Source != SourceDefault {
		t.Errorf("%+v", now)
	}
	if old.Relay.IdleTimeout != 5*time.Minute || old.Origin("relay.idle_timeout").Source != SourceDefault {
		t.Error("the old value was changed")
	}
	// Back to the start.
	if changes, err = h.Reload(old); err != nil || len(changes.Applied) != 3 || len(changes.NeedRestart) != 0 {
		t.Errorf("%+v, %v", changes, err)
	}
}

func TestReloadRefusesBrokenRules(t *testing.T) {
	h := NewHolder(load(t, Sources{}))
	before := h.Get()
	next := Default()
	next.Server.MaxRequestBody = next.Server.BodyBudget + 1
	if _, err := h.Reload(next); err == nil || !strings.Contains(err.Error(), "server.body_budget") {
		t.Error(err)
	}
	if h.Get() != before {
		t.Error("a refused reload changed the configuration")
	}
}

func TestReloadKeepsStoredSecrets(t *testing.T) {
	src := Sources{Flags: map[string]string{"data-dir": t.TempDir()}}
	first, err := load(t, src).WithStoredSecrets()
	if err != nil {
		t.Fatal(err)
	}
	next, err := load(t, src).WithStoredSecrets()
	if err != nil {
		t.Fatal(err)
	}
	_, changes, err := Merge(first, next)
	if err != nil || len(changes.Applied)+len(changes.NeedRestart) != 0 {
		t.Errorf("%+v, %v", changes, err)
	}
}

func TestHolderTogether(t *testing.T) {
	a := load(t, Sources{})
	b := load(t, Sources{Env: []string{"STREAMING_TIMEOUT=7", "RELAY_TIMEOUT=7"}})
	h := NewHolder(a)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c := h.Get(); (c.Relay.IdleTimeout == 7*time.Second) != (c.Relay.Timeout == 7*time.Second) {
					t.Error("half of a reload was seen")
					return
				}
			}
		})
	}
	for i := range 50 {
		next := a
		if i%2 == 0 {
			next = b
		}
		if _, err := h.Reload(next); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
}
