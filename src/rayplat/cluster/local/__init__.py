"""The cluster file on one machine: simulated nodes under Ray's own autoscaler, and a supervisor."""
