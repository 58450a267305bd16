"""Whether the world is still the one that the models know: measurements, drift, logs, traces."""
