// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/stacklok/waggle/host/environment"
)

// Metrics collects. Its methods may be called concurrently.
type Metrics struct {
	registry *prometheus.Registry
	calls    *prometheus.HistogramVec
	running  *prometheus.GaugeVec
}

// New returns the metrics of a server with these environments.
func New(manager *environment.Manager, version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "waggle_tool_call_duration_seconds", Help: "Calls of tools: result, error of the call, fault of the server, or cancelled.",
			Buckets: []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 900},
		}, []string{"tool", "outcome"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "waggle_tool_calls_in_flight", Help: "Calls of tools that have no answer yet.",
		}, []string{"tool"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "waggle_build_info", Help: "The version of this server, always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister( // fails only for names that are registered twice
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.calls, m.running, build, &environments{manager: manager},
	)
	return m
}

// Handler serves what was collected.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn), EnableOpenMetrics: true,
		MaxRequestsInFlight: 8, Timeout: 10 * time.Second,
	})
}

// Call counts a call of a tool until done is called with its outcome.
func (m *Metrics) Call(tool string) (done func(outcome string)) {
	running := m.running.WithLabelValues(tool)
	running.Inc()
	began := time.Now()
	return func(outcome string) {
		running.Dec()
		m.calls.WithLabelValues(tool, outcome).Observe(time.Since(began).Seconds())
	}
}

// environments counts those that there are when it is asked.
type environments struct{ manager *environment.Manager }

var (
	environmentsDesc = prometheus.NewDesc("waggle_environments", "Environments by state.", []string{"state"}, nil)
	maxDesc          = prometheus.NewDesc("waggle_environments_max", "Most environments at once.", nil, nil)
)

// Describe implements prometheus.Collector.
func (e *environments) Describe(c chan<- *prometheus.Desc) {
	c <- environmentsDesc
	c <- maxDesc
}

// Collect implements prometheus.Collector. All states are told, also those of none: a
// series that comes and goes is hard to alert on.
func (e *environments) Collect(c chan<- prometheus.Metric) {
	count := make(map[environment.State]float64)
	for _, info := range e.manager.List(context.Background()) {
		count[info.State]++
	}
	for _, state := range environment.States() {
		c <- prometheus.MustNewConstMetric(environmentsDesc, prometheus.GaugeValue, count[state], string(state))
	}
	c <- prometheus.MustNewConstMetric(maxDesc, prometheus.GaugeValue, float64(e.manager.Max()))
}
