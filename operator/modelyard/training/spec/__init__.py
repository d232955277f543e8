"""What a TrainingJob's spec may say beyond its schema, and what follows from it."""
