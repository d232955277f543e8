"""Servers of others for the same models, each in an environment of its own and in its best honest configuration.

The programs in `programs/` are run by those environments' interpreters and imported by nothing here.
"""
