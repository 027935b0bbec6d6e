"""One module for each stage of dvc.yaml, named as there: it reads its inputs, calls one room and
writes its outputs. The report's is `knowledge_gaps.report.build`; `cohort` is what gans and
classifiers share, `replays` a part of audit.
"""
