"""The page: `render` fills `templates/page.html.j2`; `glance` and `deviations` are parts of it."""
