"""Statistics: pure functions of numpy arrays that stages, evaluation and report share.

Nothing here reads or writes files, and nothing knows of torch, tables or the study. What is
measured on images is in `knowledge_gaps.evaluation`, what the report reads from the tables in
`knowledge_gaps.report.readings`.
"""
