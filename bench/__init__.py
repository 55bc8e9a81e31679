"""The benchmark: fastconv and its peers, timed in turn on the same arrays. Run ``python -m bench --help``."""
