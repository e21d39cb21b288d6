package web

func (s *Server) optionRoutes() []route { return nil }
