"""The gateway: in front of the servers of one ModelDeployment, for all its callers. No torch."""
