"""What is read from the two tables: pure functions of data frames, no figure and no text.

`tables` has the tables and the iteration table, `sweeps` the readings along one axis, `collected`
all readings of a study, `curves` the training curves, `paper` the paper's numbers beside them,
`columns` checked CSV files.
"""
