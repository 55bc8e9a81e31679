"""The parts of bench/compare_builds.py, which compares two builds of fastconv."""
