"""How a model reaches its users: gates, promotion and the whole loop from events to a passport."""
