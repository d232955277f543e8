"""Metric names, logging, health endpoints."""
