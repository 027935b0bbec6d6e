"""How good a set of generated images is, against reals: one number for each kind of failure.

Images pass an extractor once (`features`, `extractors`); every metric is a function of features:
distances of distributions (`frechet`, `kid`) and of single images (`neighbours`), and predicted
classes (`classes`). What stands in the table, and in which order, is in `table`: start there. The
verdict over some of them is in `knowledge_gaps.statistics.collapse`. Nothing here reads or writes
files of a study; the table itself is made by `knowledge_gaps.stages.quality`.
"""
