"""Where and when trainings run; nothing here decides a byte of a result.

`cohort` trains what is missing of a cohort and publishes it, by an executor: `parallel` (processes
of this machine), `cluster` (tasks of a job) or `ranks` (several processes train each instance).
"""
