"""Requests on their way: from a caller, perhaps through the line, to a server and back."""
