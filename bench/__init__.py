"""The paired benchmark: fastconv and its peers in turn, on the same arrays. Run ``python -m bench --help``."""
