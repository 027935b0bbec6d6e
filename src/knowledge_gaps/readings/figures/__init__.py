"""Figures of readings."""
