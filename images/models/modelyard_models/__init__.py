"""What trainer and server share: models fetched, their folders, files that are never half, failures."""
