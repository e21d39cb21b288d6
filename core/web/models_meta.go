package web

func (s *Server) modelsMetaRoutes() []route { return nil }
