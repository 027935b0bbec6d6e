"""What is read from the tables of reports/: readings with their cells and figures.

`reading` has the base class and the list of all readings, `cells` the frame that they select from,
`tables` reads detections.csv and quality.csv. A new reading is a class with a position in a file
here, and a template of its name in report/templates/sections.
"""
