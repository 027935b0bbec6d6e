"""The report: readings of detections.csv and quality.csv as tables, figures, numbers and a page.

Start at `knowledge_gaps.report.build`; what the numbers are is in `tables`, `sweeps` and
`readings`, how they look in `figures`, `grids`, `curves` and `page`.
"""
