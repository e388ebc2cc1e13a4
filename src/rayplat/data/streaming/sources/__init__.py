"""Sources: every place that records come from, behind one protocol."""
