"""Above the stages: many of them at the same time, and sweeps of whole studies; both through DVC.

`kgaps repro` is in `repro`: `plan` asks DVC what there is to do, `machine` shares the cores or
GPUs out, `schedule` decides what runs when, `job` runs one stage through DVC, `show` tells the
user, `order` brings what DVC wrote into the order of a serial run. `kgaps sweep` is in `sweep`:
`grid` makes the experiments of it, `queue` hands them to DVC's queue and reads what became of
them. `guard` keeps commands off one another, `dvc_calls` asks DVC. No stage of dvc.yaml depends on
this package, and no result on what happens in it.
"""
