package batch

// The Prometheus endpoint.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const metricsHeaderTimeout = 5 * time.Second

// MetricsServer serves a registry under /metrics.
type MetricsServer struct {
	// Addr is the address that it listens on; the port is the real one even
	// when 0 was asked for.
	Addr string

	server *http.Server
	done   sync.WaitGroup
}

// ServeMetrics listens on host:port and answers until Stop.
func ServeMetrics(listen string, registry *prometheus.Registry) (*MetricsServer, error) {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen on metrics_listen = %s: %w; choose another host:port", listen, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	m := &MetricsServer{
		Addr:   listener.Addr().String(),
		server: &http.Server{Handler: mux, ReadHeaderTimeout: metricsHeaderTimeout},
	}
	m.done.Go(func() { m.server.Serve(listener) })
	return m, nil
}

// Stop ends the server and waits for it.
func (m *MetricsServer) Stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := m.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = m.server.Close()
	}
	m.done.Wait()
	return err
}
