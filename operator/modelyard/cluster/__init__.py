"""The API server: client, watches, Lease. The only package that imports kopf and kubernetes."""
