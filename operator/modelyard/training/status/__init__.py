"""What a TrainingJob's status says."""
