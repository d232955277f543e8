"""The chart's Grafana dashboards as code; `python -m dashboards` writes them."""
