"""Fetches the base model and the data into content-addressed storage, cleans, splits and tokenises them."""
