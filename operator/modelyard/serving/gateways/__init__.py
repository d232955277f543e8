"""Gateways: the pods through which all requests go, and the load that they tell."""
