"""A real Kubernetes cluster on this machine: kind where Docker runs, else the same components as processes.

Run `python3 -m tests.cluster --help`. Standard library only, Python 3.9 or later, no virtual environment:
this is what exists before anything else does.
"""
