"""What decides the bytes of a trained instance.

Read `gan` (with its `phases`) and `classifier` for what a step is, `loop` for what both share
(stopping, `curves`, the resume `state`), `instance` for the way from a task to result files.
"""
