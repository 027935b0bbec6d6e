"""The paper's findings as hypotheses with thresholds fixed beforehand, and their verdicts.

`schema` and `selection` say what a claim is and `load` reads findings.yaml. `study_cells` (with
`places`) and `paper_cells` list what can be asked in a study and in the paper's tables, `cells`
chooses what a claim asks for, `judge` gives the verdicts, `form` writes them, and `margins` derives
what thresholds are made of. The intervals are made in `knowledge_gaps.statistics`.
"""
