"""Autoscalers of others, run for real beside the cluster: KEDA, and the metrics by which Kubernetes' own scales."""
