"""The page: `render` fills templates/page.html.j2, which includes a template for each section."""
