"""The train stage: attempts, how they end, and whether another follows."""
