"""Reads progress from pods and hands it to the engine as facts."""
