"""Measuring: who detects whom (`detection`), and how good the images are (`quality`)."""
