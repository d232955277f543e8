"""A model server as a process of its own, over HTTP."""
