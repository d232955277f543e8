"""Tests of the trainer image's code."""
