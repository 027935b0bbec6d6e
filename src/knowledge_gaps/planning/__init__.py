"""What the study costs on this machine, before it is run: `kgaps plan`."""
