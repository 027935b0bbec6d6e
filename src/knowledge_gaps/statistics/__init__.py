"""Statistics: pure functions of numpy arrays that stages, evaluation and report share.

Nothing here reads or writes files, and nothing knows of torch or the study; `measures` has the
names that the tables give to what is measured. What is
measured on images is in `knowledge_gaps.evaluation`, what the report reads from the tables in
`knowledge_gaps.readings`.
"""
