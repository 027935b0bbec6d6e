"""One module for each stage of dvc.yaml, named as there; each reads its inputs, calls one room and
writes its outputs. `dvc.yaml` lists the inputs and outputs of every stage. `cohort` is what gans
and classifiers share, `replays` a part of audit; `plan`, `verdicts`, `describe` and `track` are run
by hand.
"""
