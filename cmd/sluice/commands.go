package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/app"
	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/provider/fakellm"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

func newMigrate(g *global) *cobra.Command {
	return &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database's schema up to this version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.loadFull(cmd)
			if err != nil {
				return err
			}
			log, err := logger(cfg, cmd.ErrOrStderr(), false)
			if err != nil {
				return err
			}
			made, err := app.Migrate(cmd.Context(), cfg, log.Logger)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d migrations made; the schema is up to date\n", made)
			return nil
		},
	}
}

func newConfig(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Show or check the configuration", Args: cobra.NoArgs}
	cmd.AddCommand(
		&cobra.Command{
			Use:   "print",
			Short: "Show each effective value and where it came from, without secrets",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := g.load(cmd)
				if err != nil {
					return err
				}
				if cfg, err = cfg.ReadStoredSecrets(); err != nil {
					return err
				}
				return cfg.Print(cmd.OutOrStdout())
			},
		},
		&cobra.Command{
			Use:   "validate",
			Short: "Check the configuration and say what is wrong",
			Args:  cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				cfg, err := g.load(cmd)
				if err != nil {
					return err
				}
				for _, n := range cfg.Notices() {
					fmt.Fprintln(cmd.ErrOrStderr(), n)
				}
				fmt.Fprintln(cmd.OutOrStdout(), "the configuration is valid")
				return nil
			},
		},
	)
	return cmd
}

func newHealthcheck(g *global) *cobra.Command {
	var ready bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the node on this machine whether it is alive; the exit code is the answer",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := g.load(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			path := "/livez"
			if ready {
				path = "/readyz"
			}
			return healthcheck(ctx, localURL(cfg.Server.Listen)+path)
		},
	}
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether it takes traffic (/readyz), not only whether it lives (/livez)")
	cmd.Flags().DurationVar(&limit, "timeout", 5*time.Second, "longest wait")
	return cmd
}

// localURL is how this machine reaches a listen address.
func localURL(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

func healthcheck(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("healthcheck: %s answered %s", url, resp.Status)
	}
	return nil
}

func newFakeLLM() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "fakellm",
		Short: "Run a fake LLM that answers all formats deterministically, for tests",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ln, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return fmt.Errorf("--listen: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "fake LLM at http://%s\n", ln.Addr())
			return serveUntil(cmd.Context(), ln, fakellm.New(fakellm.Options{}))
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:4000", "`address` to listen on")
	return cmd
}

// serveUntil serves h until ctx ends, and then gives running answers a second.
func serveUntil(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		err = srv.Close()
		<-served
		return err
	}
	<-served
	return nil
}

func newVersion() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the version of this binary",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := telemetry.BuildInfo()
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "sluice %s %s %s/%s\n", b.Version, b.Go, b.OS, b.Arch)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, with commit and time")
	return cmd
}

func newUser(g *global) *cobra.Command {
	cmd := &cobra.Command{Use: "user", Short: "Manage accounts", Args: cobra.NoArgs}
	var fromStdin bool
	reset := &cobra.Command{
		Use:   "reset-password NAME",
		Short: "Give an account a new password and end its logins",
		Long:  "Give an account a new password and end its logins. Without --password-stdin a random one is made and shown once.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var password core.Secret
			if fromStdin {
				var err error
				if password, err = readPassword(cmd.InOrStdin()); err != nil {
					return err
				}
			}
			cfg, err := g.load(cmd)
			if err != nil {
				return err
			}
			if cfg, err = cfg.ReadStoredSecrets(); err != nil {
				return err
			}
			return resetPassword(cmd, cfg, args[0], password)
		},
	}
	reset.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password from the first line of stdin")
	cmd.AddCommand(reset)
	return cmd
}

func resetPassword(cmd *cobra.Command, cfg *config.Config, name string, password core.Secret) error {
	log, err := logger(cfg, cmd.ErrOrStderr(), false)
	if err != nil {
		return err
	}
	set, err := app.ResetPassword(cmd.Context(), cfg, log.Logger, name, password)
	if err != nil {
		return err
	}
	if password != "" {
		fmt.Fprintf(cmd.OutOrStdout(), "the password of %s was changed\n", name)
		return nil
	}
	// The operator asked for it: this is the one place where it is shown.
	fmt.Fprintln(cmd.OutOrStdout(), set.Reveal())
	return nil
}

// readPassword takes the first line, of at most 1 KB.
func readPassword(r io.Reader) (core.Secret, error) {
	line, err := bufio.NewReader(io.LimitReader(r, 1025)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	password := strings.TrimRight(line, "\r\n")
	if password == "" {
		return "", errors.New("no password on stdin")
	}
	if len(password) > 1024 {
		return "", errors.New("the password on stdin is longer than 1 KB")
	}
	return core.Secret(password), nil
}
