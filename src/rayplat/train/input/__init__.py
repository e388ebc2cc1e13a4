"""Input of training: rows in an order of the seed, the epoch and the step alone, ahead of need."""
