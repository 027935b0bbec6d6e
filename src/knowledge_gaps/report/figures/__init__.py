"""Figures: one function each, from readings to matplotlib; `gallery` draws and describes all."""
