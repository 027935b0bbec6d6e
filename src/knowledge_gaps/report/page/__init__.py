"""The page: `render` fills `templates/page.html.j2`; `glance`, `recipes` and `deviations` are
parts of it.
"""
