"""Sweeps of whole studies through DVC's experiment queue: `kgaps sweep`."""
