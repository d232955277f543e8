"""The protocols: what a request may say in each, and how its answer or refusal looks."""
