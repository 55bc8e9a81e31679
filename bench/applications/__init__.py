"""Networks of keras.applications, stock and after `fastconv.keras.accelerate`."""
