"""Figures with their words: what each shows, its protocol and its source rows.

`charts` are of the two tables, `pictures` of images, `draw` puts all of a study in order; drawing
itself is in `knowledge_gaps.report.figures`.
"""
