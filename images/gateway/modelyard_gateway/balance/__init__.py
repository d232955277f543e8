"""Which server gets a request, and the line of those that wait for one."""
