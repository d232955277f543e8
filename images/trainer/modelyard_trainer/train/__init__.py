"""Trains one rank of a job: Hugging Face Trainer on DeepSpeed, with our stopping, saving, gate, export."""
