"""What decides the bytes of a trained instance.

Read `gan` and `classifier` for what a step is, `trainer` and `loop` for what both share (`state`:
curves and resuming), `instance` for the way from a task to result files.
"""
