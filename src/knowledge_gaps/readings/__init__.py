"""What is read from the tables of reports/: readings with their cells and figures.

`reading` has the base class and the list of all readings, `cells` the frame that they select from,
`tables` reads detections.csv, quality.csv and judges.csv. A new reading is a class with a position
in a file here, and a template of its name in report/templates/sections.
"""
