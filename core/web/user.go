package web

func (s *Server) userRoutes() []route { return nil }
