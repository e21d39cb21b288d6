package web

func (s *Server) pricingRoutes() []route { return nil }
