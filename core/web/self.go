package web

func (s *Server) selfRoutes() []route { return nil }
