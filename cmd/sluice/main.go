// Command sluice is the gateway: the server and the commands around it.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	_ "time/tzdata" // small images have no zone files

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/core/config"
	"github.com/sluice-gateway/sluice/core/telemetry"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := untilSignal(context.Background(), stderr, os.Exit)
	defer stop()
	cmd := newRoot(config.FromProcess)
	cmd.SetArgs(args)
	cmd.SetIn(stdin)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "sluice:", err)
		if usageError(err) {
			fmt.Fprintln(stderr, "See: sluice --help")
		}
		return 1
	}
	return 0
}

// usageError reports whether the command line itself is wrong. Cobra has no types
// for that.
func usageError(err error) bool {
	for _, start := range []string{"unknown command", "unknown flag", "unknown shorthand", "flag needs an argument", "invalid argument", "accepts "} {
		if strings.HasPrefix(err.Error(), start) {
			return true
		}
	}
	return false
}

// untilSignal ends the context at the first SIGINT or SIGTERM, which drains the
// node; the second one ends the process at once.
func untilSignal(parent context.Context, stderr io.Writer, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			if ctx.Err() != nil {
				fmt.Fprintln(stderr, "sluice: second signal, ending at once")
				exit(1)
				return
			}
			cancel()
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(); close(done) }
}

// sourcesFunc makes the sources of the configuration from the flags; tests give
// their own environment.
type sourcesFunc func(file string, flags map[string]string) config.Sources

// newRoot is the command tree. Without a subcommand it serves.
func newRoot(sources sourcesFunc) *cobra.Command {
	g := &global{sources: sources}
	root := &cobra.Command{
		Use:           "sluice",
		Short:         "An LLM API gateway: one binary, one node or a cluster",
		Version:       telemetry.Version(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate("{{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringVar(&g.file, "config", "", "YAML `file` (else SLUICE_CONFIG; see configs/sluice.yaml)")
	flags.String("port", "", "port of the API (server.listen)")
	flags.String("log-dir", "", "folder of the log file; \"\" is stdout only (log.dir)")
	flags.String("data-dir", "", "folder of the node's own files (node.data_dir)")
	serve := newServe(g)
	root.RunE = serve.RunE
	root.Flags().AddFlagSet(serve.Flags())
	root.AddCommand(serve, newMigrate(g), newConfig(g), newHealthcheck(g), newFakeLLM(), newVersion(), newUser(g))
	return root
}

// global is what every command shares.
type global struct {
	sources sourcesFunc
	file    string
}

// load reads the configuration with the flags that were given.
func (g *global) load(cmd *cobra.Command) (*config.Config, error) {
	flags := map[string]string{}
	for _, name := range []string{"port", "log-dir", "data-dir"} {
		if f := cmd.Flag(name); f != nil && f.Changed {
			flags[name] = f.Value.String()
		}
	}
	return config.Load(g.sources(g.file, flags))
}

// loadFull is load with the secrets that the node keeps itself.
func (g *global) loadFull(cmd *cobra.Command) (*config.Config, error) {
	cfg, err := g.load(cmd)
	if err != nil {
		return nil, err
	}
	return cfg.WithStoredSecrets()
}

// logger makes the log of cfg. file says whether it is written to log.dir too.
func logger(cfg *config.Config, out io.Writer, file bool) (*telemetry.Log, error) {
	zone, err := config.LoadTimezone(cfg.Log.Timezone)
	if err != nil {
		return nil, err
	}
	o := telemetry.LogOptions{
		Out: out, Level: cfg.Log.Level, Text: cfg.Log.Format == config.LogText, Location: zone, Secrets: cfg.SecretValues(),
		MaxSize: cfg.Log.MaxSize, MaxFiles: cfg.Log.MaxFiles, MaxAge: cfg.Log.MaxAge,
	}
	if file {
		o.Dir = cfg.Log.Dir
	}
	return telemetry.NewLogger(o)
}
