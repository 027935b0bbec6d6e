"""The report: figures, numbers and a page, made of readings, analyses and findings; see `build`."""
