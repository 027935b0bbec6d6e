"""The page: `render` fills `templates/page.html.j2`, which has a file for each section.

`verdicts`, `statistics`, `recipes` and `deviations` are tables of it.
"""
