// Command bench measures what the gateway costs per request, side by side with
// a floor program in one run: a bare net/http relay without a database. Upstream,
// gateways and load generator share the machine, so the message is the CPU time
// of the gateway's process (user and system, from /proc) and the ratios to the
// floor, not requests per second.
//
//	go run ./tests/bench                 the whole table
//	go run ./tests/bench -only 1KB       one scenario
//	go run ./tests/bench -variants floor,sqlite-off
//
// All traffic stays on 127.0.0.1 and every loop is bounded in time.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "floor":
			fatal(runFloor(os.Args[2], os.Args[3]))
			return
		case "upstream":
			fatal(runUpstream(os.Args[2]))
			return
		}
	}
	var o options
	var only, variants string
	flag.IntVar(&o.rounds, "rounds", 3, "interleaved rounds; the median counts")
	flag.DurationVar(&o.length, "length", 3*time.Second, "length of one measurement")
	flag.StringVar(&only, "only", "", "comma list of scenarios (1KB, 100KB, stream, latency, chunks, pace, idle)")
	flag.StringVar(&variants, "variants", "", "comma list of variants (floor, sqlite-off, sqlite, mariadb-off, mariadb, grown-off)")
	flag.IntVar(&o.tokens, "tokens", 100_000, "API keys in the database of variant grown-off, beside 10,000 channels")
	flag.Parse()
	o.only, o.variants = set(only), set(variants)
	fatal(run(o))
}

type options struct {
	rounds         int
	length         time.Duration
	tokens         int
	only, variants map[string]bool
}

func set(list string) map[string]bool {
	m := map[string]bool{}
	for _, s := range strings.Split(list, ",") {
		if s != "" {
			m[s] = true
		}
	}
	return m
}

func (o options) wants(m map[string]bool, name string) bool { return len(m) == 0 || m[name] }

func fatal(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
