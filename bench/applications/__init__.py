"""Whole networks of keras.applications: stock layers against what `fastconv.keras.accelerate` makes of them."""
