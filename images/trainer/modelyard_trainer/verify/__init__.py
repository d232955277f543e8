"""Loads a model's folder as anyone would, and compares what it answers with its reference.json.

Runs in a process of its own, without DeepSpeed, without torch.distributed and without the Trainer.
"""
