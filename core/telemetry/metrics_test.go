package telemetry

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := NewMetrics(reg)
	m.Requests.WithLabelValues("chat", "gpt-4o-mini", "openai", "200").Inc()
	m.RequestSeconds.WithLabelValues("chat").Observe(1)
	m.FirstTokenSeconds.WithLabelValues("openai").Observe(1)
	m.Tokens.WithLabelValues("input").Add(3)
	m.RateLimited.WithLabelValues("global_api").Inc()
	m.CacheHits.WithLabelValues("token").Inc()
	m.CacheMisses.WithLabelValues("token").Inc()
	m.UpstreamErrors.WithLabelValues("openai", "timeout").Inc()
	m.BreakerOpen.WithLabelValues("3").Set(1)
	m.DBErrors.WithLabelValues("reserve").Inc()
	m.BuildInfo.WithLabelValues(Version()).Set(1)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 22 {
		t.Errorf("%d families", len(families))
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sluice_") || f.GetHelp() == "" {
			t.Error(f.GetName())
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestBuildInfo(t *testing.T) {
	if b := BuildInfo(); b.Version == "" || b.Go == "" || b.OS == "" || b.Arch == "" {
		t.Errorf("%+v", b)
	}
}
