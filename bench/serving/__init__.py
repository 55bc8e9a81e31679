"""Inference with filters packed once: single layers and whole networks, against inference libraries."""
