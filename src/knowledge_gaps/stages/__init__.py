"""One module for each stage of dvc.yaml, named as there; each reads its inputs, calls one room and
writes its outputs. `dvc.yaml` lists the inputs and outputs of every stage. `cohort` is what gans
and classifiers share; `plan`, `verdicts`, `track` and `describe` are run by hand.
"""
