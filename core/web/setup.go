package web

import (
	"context"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/core"
	"github.com/sluice-gateway/sluice/core/store"
)

func (s *Server) setupRoutes() []route {
	return []route{
		{method: "GET", path: "/api/setup", caller: callAnyone, handler: s.getSetup},
		{method: "POST", path: "/api/setup", caller: callAnyone, limit: limitCritical, handler: s.postSetup},
	}
}

// setupTimeout bounds the question whether there is a root, which status asks
// too.
const setupTimeout = 500 * time.Millisecond

// setUp reports whether there is a root. Once seen, it is not asked again; where
// the database does not answer, known is false.
func (s *Server) setUp(ctx context.Context) (done, known bool) {
	if s.isSetUp.Load() {
		return true, true
	}
	ctx, cancel := context.WithTimeout(ctx, setupTimeout)
	defer cancel()
	has, err := s.o.Store.HasRoot(ctx)
	if err != nil {
		return false, false
	}
	if has {
		s.isSetUp.Store(true)
	}
	return has, true
}

// getSetup has no message, as New API's.
func (s *Server) getSetup(c *call) error {
	done, known := s.setUp(c.ctx())
	if !known {
		return core.Errorf(core.CodeStoreUnavailable, "the database does not answer; try again shortly")
	}
	return c.json(http.StatusOK, map[string]any{"success": true, "data": map[string]any{"status": done, "root_init": done, "database_type": s.o.Store.Dialect()}})
}

// rootQuota is New API's: 200 USD.
const rootQuota = 100_000_000

type setupBody struct {
	Username string      `json:"username" validate:"required,max=12"`
	Password core.Secret `json:"password" validate:"required"`
	Confirm  core.Secret `json:"confirmPassword"`
	SelfUse  bool        `json:"SelfUseModeEnabled"`
	DemoSite bool        `json:"DemoSiteEnabled"`
}

// postSetup makes root. Whether there is one is asked under a lock in the
// transaction that makes it, so that of two callers one wins.
func (s *Server) postSetup(c *call) error {
	taken := core.Errorf(core.CodeConflict, "the system is set up already")
	if done, _ := s.setUp(c.ctx()); done {
		return taken
	}
	var body setupBody
	if err := c.bind(&body); err != nil {
		return err
	}
	if err := checkUsername(body.Username); err != nil {
		return err
	}
	if body.Password != body.Confirm {
		return invalidField("confirmPassword", "differs from password")
	}
	hash, err := s.login.hashes.hash(c.ctx(), body.Password)
	if err != nil {
		return err
	}
	root := s.newUser(body.Username, hash)
	root.Role, root.Quota, root.DisplayName = core.RoleRoot, rootQuota, "Root User"
	err = c.update(func(ctx context.Context, tx *store.Tx) error {
		has, err := tx.HasRoot(ctx)
		if err != nil {
			return err
		}
		if has {
			return taken
		}
		for key, on := range map[string]bool{"SelfUseModeEnabled": body.SelfUse, "DemoSiteEnabled": body.DemoSite} {
			if on {
				if err := tx.PutOption(ctx, key, "true"); err != nil {
					return err
				}
			}
		}
		return tx.CreateUser(ctx, root)
	})
	if err != nil {
		return err
	}
	s.isSetUp.Store(true)
	return c.message("the system is set up; log in as root")
}
