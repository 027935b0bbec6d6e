"""The report: readings of detections.csv and quality.csv as tables, figures, numbers and a page.

Start at `build`. `readings` says what the numbers are, `figures` and `page` how they look;
`metrics` and `plots` are what `dvc metrics` and `dvc plots` read.
"""
