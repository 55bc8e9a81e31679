"""Compares two builds of fastconv; the command line is bench/compare_builds.py."""
