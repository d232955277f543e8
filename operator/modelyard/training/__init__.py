"""TrainingJob: plan.py and one file per policy."""
