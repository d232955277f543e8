"""Builds the images and brings them into a cluster; used through images/build.py. Standard library only."""
