"""Pods: how they are built, what their state says, and why they don't run."""
