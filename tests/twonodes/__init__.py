"""Tests on two nodes, each with a kubelet, a containerd and a network of its own: `make test-two-nodes`.

They have a cluster of their own, which stands beside the one of the end-to-end tests, and is stopped at the end.
"""
