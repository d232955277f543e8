"""What can be known of a model and its settings without an accelerator, and without loading a weight."""
