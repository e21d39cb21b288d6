package app

import (
	"encoding/json"
	"net/http"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/web"
)

// notReady answers while the rooms are being built.
func (a *app) notReady() http.Handler {
	refuse := web.Refuser(codecs(), func(*http.Request) *core.Error {
		return core.Errorf(core.CodeStarting, "the node is starting: %s", a.waitsFor())
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/livez":
			answer(w, http.StatusOK, map[string]string{"status": "ok"})
		case "/readyz", "/healthz":
			a.readyStarting(w, r)
		case "/api/status":
			// It never fails because a dependency is down. setup is true, so that no
			// console offers to set up what may be in use.
			answer(w, http.StatusOK, map[string]any{"success": true, "message": "the node is starting: " + a.waitsFor(),
				"data": map[string]any{"version": a.node.Version, "start_time": a.node.StartedAt.Unix(), "setup": true}})
		default:
			refuse.ServeHTTP(w, r)
		}
	})
}

// waitsFor is what the start waits for.
func (a *app) waitsFor() string {
	if p := a.waiting.Load(); p != nil {
		return *p
	}
	return "the rooms are being built"
}

// readyStarting is /readyz until the node serves.
func (a *app) readyStarting(w http.ResponseWriter, r *http.Request) {
	body := map[string]any{"status": "unavailable"}
	if r.URL.Query().Has("verbose") {
		body["checks"] = []map[string]any{{"name": "started", "ok": false, "required": true, "detail": a.waitsFor()}}
	}
	w.Header().Set("Retry-After", "2")
	answer(w, http.StatusServiceUnavailable, body)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the prober may be gone
}
