"""The two training loops, how the instances of a cohort run, and how one runs in several processes.

Read `gan` (with its `phases`) and `classifier` for what a step is, `loop` for what both share
(stopping, `curves`, the resume `state`), `ranks` for training by several processes together,
`cohort` for how a cohort comes from its tasks to its directory.
"""
