package web

func (s *Server) setupRoutes() []route { return nil }
