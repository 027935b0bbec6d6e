"""What is read from the tables of reports/: a file for each reading, with its cells and figure.

`reading` has the base class and the list of all readings, `cells` the frame that they select from,
`tables` reads detections.csv and quality.csv. A new reading is a new file here with a class
that has a position, and a template of its name in report/templates/sections.
"""
