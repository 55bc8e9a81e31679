"""Training and inference of whole networks, paired. Run ``python -m bench.training --help``."""
