package web

func (s *Server) relayRoutes() []route { return nil }
