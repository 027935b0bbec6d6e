"""Where and when trainings run; nothing here decides a byte of a result.

`cohort` trains what is missing of a cohort and publishes it, by an executor: `local` (processes of
this machine) or `ranks` (several processes train each instance together).
"""
