"""What the gateway tells: load, metrics, and a line for each request."""
