"""Servers that aren't ours, in images of their own: transformers', and vLLM's build for processors."""
