package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/provider/fakellm"
	"github.com/sluice-gateway/sluice/core/store"
	"github.com/sluice-gateway/sluice/core/web"
)

// demoChannels are the upstream accounts of the demo, one a format, all at the
// fake LLM inside this process.
var demoChannels = []struct {
	name   string
	typ    int
	models []string
}{
	{"demo openai", 1, []string{"gpt-4o-mini", "gpt-4o", "text-embedding-3-small"}},
	{"demo claude", 14, []string{"claude-sonnet-4-5"}},
	{"demo gemini", 24, []string{"gemini-2.5-flash"}},
}

const (
	demoTokenName = "demo"
	demoActor     = "demo"
	demoQuota     = 100_000_000
)

// demo runs the fake LLM, makes what is missing of root, channels and token, and
// prints lines to try. A second run finds the rows of the first.
func (a *app) demo(ctx context.Context, addr net.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	base, err := a.startFakeLLM()
	if err != nil {
		return err
	}
	password, err := a.demoRoot(ctx)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if err := a.demoUpstreams(ctx, base); err != nil {
		return fmt.Errorf("channels: %w", err)
	}
	key, err := a.demoToken(ctx)
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return err
	}
	printDemo(a.Out, "http://localhost:"+port, key, password)
	return nil
}

func (a *app) startFakeLLM() (base string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{Handler: fakellm.New(fakellm.Options{}), ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = srv.Serve(ln) }()
	a.onStop(func(context.Context) error { return srv.Close() })
	return "http://" + ln.Addr().String(), nil
}

// demoRoot returns the new password, or "" when there is a root already.
func (a *app) demoRoot(ctx context.Context) (core.Secret, error) {
	has, err := a.store.HasRoot(ctx)
	if err != nil || has {
		return "", err
	}
	password := core.Secret(randomPassword())
	hash, err := web.HashPassword(ctx, password)
	if err != nil {
		return "", err
	}
	_, err = a.store.Update(ctx, core.SystemActor(demoActor), func(tx *store.Tx) error {
		return tx.CreateUser(ctx, &core.User{Username: "root", DisplayName: "Root", PasswordHash: hash, Role: core.RoleRoot, Status: core.UserEnabled,
			Group: "default", Quota: demoQuota, CreatedAt: time.Now()})
	})
	return password, err
}

// demoUpstreams makes the channels, or points those of an earlier run at the
// fake LLM's new port.
func (a *app) demoUpstreams(ctx context.Context, base string) error {
	page, _, err := a.store.Channels(ctx, core.PageQuery{Limit: 100}, store.ChannelFilter{Tag: demoActor})
	if err != nil {
		return err
	}
	have := map[string]*core.Channel{}
	for _, c := range page.Items {
		have[c.Name] = c
	}
	_, err = a.store.Update(ctx, core.SystemActor(demoActor), func(tx *store.Tx) error {
		for _, d := range demoChannels {
			if old := have[d.name]; old != nil {
				c := *old
				c.BaseURL, c.Key = base, ""
				if err := tx.SaveChannel(ctx, &c); err != nil {
					return err
				}
				continue
			}
			if err := tx.CreateChannel(ctx, &core.Channel{Type: d.typ, Key: "fake-upstream-key", Name: d.name, Tag: demoActor, Status: core.ChannelEnabled,
				BaseURL: base, Models: d.models, Groups: []string{"default"}, CreatedAt: time.Now()}); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

func (a *app) demoToken(ctx context.Context) (core.Secret, error) {
	root, err := a.store.UserByLogin(ctx, "root")
	if core.IsCode(err, core.CodeNotFound) {
		return "", fmt.Errorf("the database was set up under another root name; use its own tokens, or start the demo with an empty --data-dir")
	}
	if err != nil {
		return "", err
	}
	page, err := a.store.Tokens(ctx, root.ID, core.PageQuery{Limit: 100}, store.TokenFilter{Keyword: demoTokenName})
	if err != nil {
		return "", err
	}
	for _, t := range page.Items {
		if t.Name == demoTokenName {
			return a.store.RevealTokenKey(ctx, root.ID, t.ID)
		}
	}
	key := store.NewTokenKey()
	_, err = a.store.Update(ctx, core.SystemActor(demoActor), func(tx *store.Tx) error {
		return tx.CreateToken(ctx, &core.Token{UserID: root.ID, Name: demoTokenName, Status: core.TokenEnabled, UnlimitedQuota: true, CreatedAt: time.Now()}, key)
	})
	return key, err
}
