package web

func (s *Server) logRoutes() []route { return nil }
