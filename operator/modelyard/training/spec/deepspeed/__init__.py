"""The DeepSpeed configuration: its keys, what it may ask for, and its agreement with the rest of the spec."""
