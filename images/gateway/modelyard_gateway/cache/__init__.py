"""Answers that are kept: of calls that have the same answer each time, by revision and request."""
