"""What is measured on images by trained networks; no figures, no study.

`detection` scores images and says what the scores tell; `quality` says how good and how diverse
images are; `spectra` and `attribution` show what artifacts are and what classifiers look at;
`agreement` compares classifiers; `replay` and `audit` ask whether storage gives images away;
`train_lenet` made the packaged extractor, by hand and once. Pure functions of arrays that the
report needs too are in `knowledge_gaps.statistics`.
"""
