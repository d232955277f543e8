"""Builds: a Job that reads the model, makes its variants, measures and gates them."""
