"""The agent: PID 1 of every pod that runs work. Standard library only, Python 3.8, shipped as a zipapp."""
