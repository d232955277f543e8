"""ModelDeployment: from a model to an endpoint that is batched, scaled and changed without loss."""
