package web

import (
	"maps"
	"slices"
	"strconv"
)

func (s *Server) modelsMetaRoutes() []route {
	return []route{
		{method: "GET", path: "/api/models", caller: callUser, handler: s.modelsByType},
	}
}

// modelsByType answers {channel type: [models]} of the channels that the caller
// can reach through one of the groups he may use.
func (s *Server) modelsByType(c *call) error {
	snap := s.snapshot()
	usable := snap.UsableGroups(c.user.Group)
	byType := map[int]map[string]struct{}{}
	for _, ch := range snap.Channels {
		if !ch.Enabled() || !slices.ContainsFunc(ch.Groups, func(g string) bool { _, ok := usable[g]; return ok }) {
			continue
		}
		if byType[ch.Type] == nil {
			byType[ch.Type] = map[string]struct{}{}
		}
		for _, m := range ch.Models {
			byType[ch.Type][m] = struct{}{}
		}
	}
	out := make(map[string][]string, len(byType))
	for typ, models := range byType {
		out[strconv.Itoa(typ)] = slices.Sorted(maps.Keys(models))
	}
	return c.ok(out)
}
