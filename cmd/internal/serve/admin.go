package serve

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// adminPart serves operators: metrics and probes on one listener, profiles on
// another, because a profile holds what is in memory.
type adminPart struct {
	*process
	listener net.Listener // nil: not here
	profiles net.Listener // nil: not here
}

func (a *adminPart) listen() (err error) {
	if a.listener, err = a.listenHTTP("admin.listen", a.config.AdminListen); err != nil {
		return err
	}
	a.profiles, err = a.listenHTTP("admin.pprof_listen", a.config.PprofListen)
	return err
}

func (a *adminPart) start(ready func() bool) {
	a.serve(a.listener, admin(a.metrics.Registry, ready))
	a.serve(a.profiles, profiles())
}

// serve serves on a listener, if there is one.
func (a *adminPart) serve(listener net.Listener, handler http.Handler) {
	if listener == nil {
		return
	}
	server := httpServer(handler)
	server.ErrorLog = newHTTPFaults("admin", a.logger, func() {})
	// Without a bound its clients could use up the files that checks need.
	listener = inTurn(server, &bounded{Listener: listener, limit: int64(a.config.MaxConnections), rejected: func() {}})
	a.running.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.failed <- err
		}
	})
	a.onClose(func() { _ = server.Close() })
}

// attributes say in the log where it serves.
func (a *adminPart) attributes() []any {
	if a.listener == nil {
		return nil
	}
	return []any{"admin", a.listener.Addr().String()}
}

// admin answers operators and their machines:
//
//	/metrics   Prometheus
//	/healthz   200 as long as the process runs
//	/readyz    200 while it is ready for checks, 503 while it drains; it does not
//	           follow Redis, see AuthorizationService
func admin(registry *prometheus.Registry, ready func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", &rendered{Handler: promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry: registry, EnableOpenMetrics: true, Timeout: 10 * time.Second,
	})})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "draining", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

// profiles serves /debug/pprof/.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// httpServer is a server for operators; a profile may take half a minute.
func httpServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, MaxHeaderBytes: 16 << 10,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 2 * time.Minute, IdleTimeout: time.Minute,
	}
}
