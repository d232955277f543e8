"""The built-in model server: `python -m modelyard_server` reads a server config and serves one model over HTTP."""
