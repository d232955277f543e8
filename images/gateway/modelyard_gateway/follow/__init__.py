"""Which servers there are: the deployment's EndpointSlices, watched, and remembered while the API server is away."""
