"""Many models on one replica: loaded as they are asked for, let go when others are asked for more."""
