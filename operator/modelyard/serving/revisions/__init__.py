"""Revisions: which there are, how many servers each has, and where requests go."""
