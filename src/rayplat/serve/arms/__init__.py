"""The arms of an endpoint: who answers a question, who is asked beside, and who stands in."""
