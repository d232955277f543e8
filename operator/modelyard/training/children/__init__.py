"""The objects below a TrainingJob: made, made again, and held by others."""
