"""Before a study runs: what it costs here (`kgaps plan`), and many of it (`kgaps sweep`)."""
