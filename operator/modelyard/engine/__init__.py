"""A generic level-triggered reconciler. It knows no kind and no client library."""
