package web

func (s *Server) statusRoutes() []route { return nil }
