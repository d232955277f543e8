"""The demo: from nothing to a model that answers. Standard library only; `python3 -m examples.demo up`."""
