package web

func (s *Server) groupRoutes() []route { return nil }
