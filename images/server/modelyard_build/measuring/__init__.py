"""Measuring one variant in a process of its own, with the server's own way from a row to its answer."""
