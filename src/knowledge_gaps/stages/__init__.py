"""One module for each stage of dvc.yaml, named as there: it reads its inputs, calls one room and
writes its outputs. Those of gans and classifiers are `cohort`, and the report's is
`knowledge_gaps.report.build`.
"""
