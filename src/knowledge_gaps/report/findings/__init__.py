"""The paper's findings as hypotheses with thresholds fixed beforehand, and their verdicts.

`schema` says what a claim is, `load` reads findings.yaml, `cells` chooses what a claim is asked of,
which is found by, `study_cells` in a study and `paper_cells` in the paper's tables; `judge` gives the
verdicts, `form` writes them, and `margins` derives what the thresholds are made of. The intervals
are made in `knowledge_gaps.statistics`.
"""
