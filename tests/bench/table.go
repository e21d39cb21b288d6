package main

import (
	"fmt"
	"os"
	"text/tabwriter"
	"time"
)

// printTable writes one line a figure and one column a variant, the multiple of
// the floor beside what has one, and the bound that counts ("must").
func printTable(o options, variants []*variant, results map[string]map[string][]sample) {
	w := tabwriter.NewWriter(os.Stdout, 2, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprint(w, "\t")
	for _, v := range variants {
		fmt.Fprintf(w, "%s\t", v.name)
	}
	fmt.Fprintln(w, "must")
	line := func(name, must string, cell func(v *variant) string) {
		fmt.Fprintf(w, "%s\t", name)
		for _, v := range variants {
			fmt.Fprintf(w, "%s\t", cell(v))
		}
		fmt.Fprintln(w, must)
	}
	value := func(scenario string, of func(sample) float64) func(*variant) float64 {
		return func(v *variant) float64 { return median(results[scenario][v.name], of) }
	}
	cpu := func(s sample) float64 { return s.cpu }
	all := func(s sample) float64 { return s.cpu + s.cpuDB }
	var floor, direct *variant
	for _, v := range variants {
		switch v.name {
		case "floor":
			floor = v
		case "direct":
			direct = v
		}
	}
	multiple := func(get func(*variant) float64) func(*variant) string {
		return func(v *variant) string {
			x := get(v)
			switch {
			case v.pid == 0:
				return "-"
			case floor == nil || get(floor) == 0:
				return fmt.Sprintf("%.0f", x)
			}
			return fmt.Sprintf("%.0f (%.2fx)", x, x/get(floor))
		}
	}
	added := func(scenario string, of func(sample) time.Duration) func(*variant) string {
		get := value(scenario, func(s sample) float64 { return float64(of(s)) / float64(time.Millisecond) })
		return func(v *variant) string {
			if v == direct {
				return fmt.Sprintf("[%.3f]", get(v))
			}
			return fmt.Sprintf("%.3f", get(v)-get(direct))
		}
	}
	for _, s := range []struct{ scenario, title, must string }{
		{"1KB", "1 KB: CPU µs/request", "<= 1.6x"}, {"100KB", "100 KB: CPU µs/request", "<= 2.0x"}, {"stream", "100 chunks: CPU µs/stream", "<= 1.7x"},
	} {
		if results[s.scenario] == nil {
			continue
		}
		line(s.title, s.must, multiple(value(s.scenario, cpu)))
		if s.scenario == "1KB" {
			line("  with the database's CPU", "<= 2.2x", multiple(value(s.scenario, all)))
		}
		line("  requests/s (32, 16, 16 connections)", "", func(v *variant) string {
			return fmt.Sprintf("%.0f", value(s.scenario, func(s sample) float64 { return s.perSecond })(v))
		})
	}
	if results["latency"] != nil {
		line("150 requests/s: added p50 ms", "<= 0.3", added("latency", func(s sample) time.Duration { return s.p50 }))
		line("  added p99 ms", "<= 1.0", added("latency", func(s sample) time.Duration { return s.p99 }))
	}
	if results["chunks"] != nil {
		line("50 streams at 10 ms: added p50 ms a chunk", "<= 0.2", added("chunks", func(s sample) time.Duration { return s.p50 }))
		line("  added p99 ms", "<= 1.0", added("chunks", func(s sample) time.Duration { return s.p99 }))
	}
	if results["pace"] != nil {
		line("500 streams at 10 ms: pace held %", ">= 97", func(v *variant) string {
			return fmt.Sprintf("%.1f", value("pace", func(s sample) float64 { return s.pace })(v))
		})
		line("  RSS MB per 1,000 streams", "<= 150", func(v *variant) string {
			return fmt.Sprintf("%.0f", value("pace", func(s sample) float64 { return float64(s.rss) / (1 << 20) })(v))
		})
	}
	line("requests refused with 503 in all", "", func(v *variant) string { return fmt.Sprint(v.target.refused.Load()) })
	if o.wants(o.only, "idle") {
		line("idle RSS MB", "<= 40", func(v *variant) string { return fmt.Sprintf("%.1f", float64(v.idle)/(1<<20)) })
		line("start to first answer ms", "<= 50", func(v *variant) string { return fmt.Sprint(v.start.Milliseconds()) })
	}
}
