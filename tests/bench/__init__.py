"""Measurements: `python -m tests.bench`. Compare ratios of one run; absolute times move with the machine."""
