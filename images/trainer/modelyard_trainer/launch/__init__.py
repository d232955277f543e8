"""torchrun for the built-in trainer, with ranks that are forked from a process that has imported everything."""
