package web

import (
	"maps"
	"slices"
)

func (s *Server) groupRoutes() []route {
	return []route{
		{method: "GET", path: "/api/group/", caller: callAdmin, handler: s.listGroups},
	}
}

// listGroups names the groups that have a ratio. Until one is set there is the
// group that new users are in, at ratio 1.
func (s *Server) listGroups(c *call) error {
	names := []string{}
	groups := s.snapshot().Groups
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		if groups[name].HasRatio {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		names = append(names, defaultGroup)
	}
	return c.ok(names)
}
