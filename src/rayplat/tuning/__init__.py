"""Tuning: durable studies of trials on reused workers, under caps in money, time and trials."""
