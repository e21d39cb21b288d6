package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/tests/internal/harness"
)

// bench is a harness.TB outside a test.
type bench struct {
	dir      string
	cleanups []func()
	n        int
}

func (b *bench) Helper()                           {}
func (b *bench) Logf(format string, args ...any)   { fmt.Fprintf(os.Stderr, format+"\n", args...) }
func (b *bench) Cleanup(fn func())                 { b.cleanups = append(b.cleanups, fn) }
func (b *bench) Fatalf(format string, args ...any) { panic(fmt.Errorf(format, args...)) }
func (b *bench) TempDir() string {
	b.n++
	dir := filepath.Join(b.dir, fmt.Sprint(b.n))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		panic(err)
	}
	return dir
}

func (b *bench) close() {
	for i := len(b.cleanups) - 1; i >= 0; i-- {
		b.cleanups[i]()
	}
	_ = os.RemoveAll(b.dir)
}

// variant is one gateway under measurement.
type variant struct {
	name   string
	pid    int
	dbPID  int // database whose CPU counts as well, 0 = none
	target *target
	start  time.Duration // from exec to the first answered request
	idle   int64         // resident bytes before any load
}

func run(o options) (err error) {
	dir, err := os.MkdirTemp("", "sluice-bench")
	if err != nil {
		return err
	}
	b := &bench{dir: dir}
	defer b.close()
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(error)
			if !ok {
				panic(p)
			}
			err = e
		}
	}()
	up := startSelf(b, "upstream", harness.FreeAddr(b))
	upURL := "http://" + up.addr
	direct := &variant{name: "direct", target: newTarget(upURL, "none")}
	waitAnswer(b, direct)
	variants := []*variant{direct}
	if o.wants(o.variants, "floor") {
		variants = append(variants, startFloor(b, upURL))
	}
	for _, name := range []string{"sqlite-off", "sqlite", "mariadb-off", "mariadb", "grown-off"} {
		if o.wants(o.variants, name) {
			variants = append(variants, startSluice(b, name, upURL, o.tokens))
		}
	}
	return measure(o, variants)
}

type self struct {
	addr string
	cmd  *exec.Cmd
}

func startSelf(b *bench, what, addr string, args ...string) self {
	exe, err := os.Executable()
	if err != nil {
		b.Fatalf("%v", err)
	}
	cmd := exec.Command(exe, append([]string{what, addr}, args...)...)
	if len(args) == 0 {
		cmd.Args = append(cmd.Args, "-")
	}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return self{addr, cmd}
}

func startFloor(b *bench, upURL string) *variant {
	begin := time.Now()
	s := startSelf(b, "floor", harness.FreeAddr(b), upURL)
	v := &variant{name: "floor", pid: s.cmd.Process.Pid, target: newTarget("http://"+s.addr, benchKey)}
	waitAnswer(b, v)
	v.start = time.Since(begin)
	v.idle = idleRSS(v.pid)
	return v
}

// The secrets of the nodes under measurement.
const (
	sessionSecret = "bench-session-secret-0001"
	cryptoSecret  = "bench-crypto-secret-0001"
)

// startSluice sets a node up through its management API, stops it, and starts it
// again to take the time that a configured node needs to its first answer. No
// switch differs from the defaults but billing.mode where the name says off.
func startSluice(b *bench, name, upURL string, tokens int) *variant {
	env := map[string]string{"SESSION_SECRET": sessionSecret, "CRYPTO_SECRET": cryptoSecret}
	var dbPID int
	if strings.HasPrefix(name, "mariadb") {
		m := harness.MariaDB(b)
		dbPID = m.PID()
		env["SQL_DSN"] = m.NewDatabase(b)
	}
	if strings.HasSuffix(name, "-off") {
		env["SLUICE_BILLING__MODE"] = "off"
	}
	opts := harness.NodeOptions{Env: env, Bin: os.Getenv("SLUICE_TEST_BINARY")}
	n := harness.StartNode(b, opts)
	api := harness.NewAPI(b, n.URL)
	api.Setup()
	api.Option("ModelRatio", `{"bench":1}`)
	api.Option("CompletionRatio", `{"bench":2}`)
	api.Channel(map[string]any{"name": "bench", "type": 1, "models": "bench", "base_url": upURL})
	_, key := api.Token(map[string]any{"name": "bench"})
	if err := n.Stop(10 * time.Second); err != nil {
		b.Fatalf("%s: %v", name, err)
	}
	opts.Dir = n.Dir
	if strings.HasPrefix(name, "grown") {
		if err := grow(filepath.Join(n.Dir, "data", "sluice.db"), upURL, tokens); err != nil {
			b.Fatalf("grow: %v", err)
		}
	}
	begin := time.Now()
	n = harness.SpawnNode(b, opts)
	v := &variant{name: name, pid: n.Cmd.Process.Pid, dbPID: dbPID, target: newTarget(n.URL, key)}
	waitAnswer(b, v)
	v.start = time.Since(begin)
	v.idle = idleRSS(v.pid)
	return v
}

func waitAnswer(b *bench, v *variant) {
	body := chatBody(100)
	end := time.Now().Add(30 * time.Second)
	for {
		err := v.target.once(context.Background(), body)
		if err == nil {
			v.target.refused.Store(0) // while it started
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%s does not answer: %v", v.name, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func idleRSS(pid int) int64 {
	time.Sleep(500 * time.Millisecond)
	n, err := rssOf(pid)
	if err != nil {
		return 0
	}
	return n
}

func (v *variant) cpu() (own, db time.Duration) {
	if v.pid != 0 {
		own, _ = cpuOf(v.pid)
	}
	if v.dbPID != 0 {
		db, _ = cpuOf(v.dbPID)
	}
	return own, db
}

// sample is one measurement of one variant.
type sample struct {
	perSecond  float64
	cpu, cpuDB float64 // µs per request
	p50, p99   time.Duration
	pace       float64
	rss        int64 // per 1,000 streams
}

// row is a scenario: it is run once a round for every variant, interleaved.
type row struct {
	name string
	run  func(o options, v *variant) (sample, error)
}

func rows() []row {
	small, large := chatBody(700), chatBody(100_000)
	return []row{
		{"1KB", func(o options, v *variant) (sample, error) { return saturation(o, v, 32, small) }},
		{"100KB", func(o options, v *variant) (sample, error) { return saturation(o, v, 16, large) }},
		{"stream", func(o options, v *variant) (sample, error) { return saturation(o, v, 16, streamBody(100, 0)) }},
		{"latency", func(o options, v *variant) (sample, error) {
			d, err := v.target.paced(150, o.length, small)
			return sample{p50: percentile(d, .5), p99: percentile(d, .99)}, err
		}},
		{"chunks", func(o options, v *variant) (sample, error) {
			d, _, err := v.target.streams(50, int(o.length/(10*time.Millisecond)), 10*time.Millisecond, nil)
			return sample{p50: percentile(d, .5), p99: percentile(d, .99)}, err
		}},
		{"pace", pace},
	}
}

func saturation(o options, v *variant, conns int, body []byte) (sample, error) {
	own, db := v.cpu()
	begin := time.Now()
	n, err := v.target.saturate(conns, o.length, body)
	if err != nil || n == 0 {
		return sample{}, fmt.Errorf("%d requests: %w", n, err)
	}
	took := time.Since(begin)
	time.Sleep(300 * time.Millisecond) // what was queued counts too
	own2, db2 := v.cpu()
	return sample{perSecond: float64(n) / took.Seconds(), cpu: float64((own2 - own).Microseconds()) / float64(n), cpuDB: float64((db2 - db).Microseconds()) / float64(n)}, nil
}

// pace runs 500 streams with a chunk every 10 ms: how much of the pace is held,
// and what a stream costs in memory.
func pace(o options, v *variant) (sample, error) {
	const n, delay = 500, 10 * time.Millisecond
	chunks := int(o.length / delay)
	var before, busy int64
	if v.pid != 0 {
		before, _ = rssOf(v.pid)
	}
	_, took, err := v.target.streams(n, chunks, delay, func() {
		if v.pid != 0 {
			busy, _ = rssOf(v.pid)
		}
	})
	if err != nil {
		return sample{}, err
	}
	return sample{pace: 100 * float64(time.Duration(chunks)*delay) / float64(percentile(took, .5)), rss: max(0, busy-before) * 1000 / n}, nil
}

func measure(o options, variants []*variant) error {
	results := map[string]map[string][]sample{}
	for _, r := range rows() {
		if !o.wants(o.only, r.name) {
			continue
		}
		results[r.name] = map[string][]sample{}
		for round := range o.rounds {
			for _, v := range variants {
				s, err := r.run(o, v)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", r.name, v.name, err)
				}
				results[r.name][v.name] = append(results[r.name][v.name], s)
				fmt.Fprintf(os.Stderr, "\r%s round %d %s          ", r.name, round+1, v.name)
			}
		}
	}
	fmt.Fprintln(os.Stderr)
	printTable(o, variants, results)
	http.DefaultClient.CloseIdleConnections()
	return nil
}

func median(samples []sample, of func(sample) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	v := make([]float64, len(samples))
	for i, s := range samples {
		v[i] = of(s)
	}
	slices.Sort(v)
	return v[len(v)/2]
}
