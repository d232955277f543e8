"""A server that isn't ours, in an image of its own."""
