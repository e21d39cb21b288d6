package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/core/app"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

func newServe(g *global) *cobra.Command {
	var demo bool
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway (the default command)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd, g, demo)
		},
	}
	cmd.Flags().BoolVar(&demo, "demo", false, "make an account, channels with a fake LLM and a token, and print lines to try")
	return cmd
}

func serve(cmd *cobra.Command, g *global, demo bool) (err error) {
	cfg, err := g.loadFull(cmd)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if demo {
		out = cmd.ErrOrStderr() // stdout is for the lines to try
	}
	log, err := logger(cfg, out, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	slog.SetDefault(log.Logger) // for libraries
	warn(log.Logger, cfg)
	holder := config.NewHolder(cfg)
	stop := reloadOnHangup(holder, log, func() (*config.Config, error) { return g.loadFull(cmd) })
	defer stop()
	return app.Run(cmd.Context(), app.Options{Config: holder, Logger: log.Logger, Demo: demo, Out: cmd.OutOrStdout()})
}

func warn(log *slog.Logger, cfg *config.Config) {
	for _, n := range cfg.Notices() {
		log.Warn("configuration", "name", n.Name, "notice", n.Text)
	}
}

// reloadOnHangup loads anew at each SIGHUP until stop is called, which waits for
// a reload that runs.
func reloadOnHangup(holder *config.Holder, log *telemetry.Log, load func() (*config.Config, error)) (stop func()) {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				reload(holder, log, load)
			}
		}
	})
	return func() {
		signal.Stop(hangup)
		cancel()
		wg.Wait()
	}
}

func reload(holder *config.Holder, log *telemetry.Log, load func() (*config.Config, error)) {
	next, err := load()
	if err != nil {
		log.Error("reload: the configuration in force stays", "error", err)
		return
	}
	log.Redactor.Register(next.SecretValues()...)
	changes, err := holder.Reload(next)
	if err != nil {
		log.Error("reload: the configuration in force stays", "error", err)
		return
	}
	log.Level.Set(holder.Get().Log.Level)
	warn(log.Logger, holder.Get())
	log.Info("reloaded", "applied", changes.Applied, "need_restart", changes.NeedRestart)
	if len(changes.NeedRestart) > 0 {
		log.Warn("reload: changed keys wait for a restart", "keys", changes.NeedRestart)
	}
}
