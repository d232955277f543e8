"""The demo: from nothing to a trained model. Standard library only; `python3 -m examples.demo up`."""
