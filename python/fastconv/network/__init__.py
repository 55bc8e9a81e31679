"""Frozen networks, which need only NumPy to run."""
