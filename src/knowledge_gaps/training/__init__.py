"""The two training loops and how the instances of a cohort run side by side.

Read `gan` and `classifier` for what a step is, `loop` for what both share (resume, curves,
stopping), `cohort` for the processes.
"""
