"""Historical features of inputs that are too large for one process, by hash partitions on Ray."""
