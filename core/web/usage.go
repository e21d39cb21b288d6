package web

func (s *Server) usageRoutes() []route { return nil }
