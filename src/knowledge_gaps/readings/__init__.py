"""What is read from the tables of reports/: functions of data frames, no figure and no text.

`columns` reads checked CSV files, `pairs` says which rows a reading takes. `tables` has the two
tables and the iteration table, `cells` every cell with its intervals, `sweeps` the readings along
one axis, `mutual_fooling` the matrix of the paper's table B, `curves` the training curves;
`collected` brings these together for a study. `audit`, `artifacts`, `agreement` and `neighbours`
are of what stands beside the two tables, and `evidence` brings them together. `paper` has the
paper's numbers.
"""
