"""Modelyard: one Kubernetes operator for the whole life of a model."""

__version__ = "0.1.0"
