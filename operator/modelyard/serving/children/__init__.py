"""The objects of a ModelDeployment."""
