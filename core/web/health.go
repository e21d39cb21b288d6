package web

func (s *Server) healthRoutes() []route { return nil }
