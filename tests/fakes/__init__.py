"""Stand-ins for the outside: a cluster in memory, a clock that moves when told."""
