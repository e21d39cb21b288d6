package web

func (s *Server) channelRoutes() []route { return nil }
