"""A deployment in simulation: requests by a trace, replicas that take time to start, and a scaler that looks."""
