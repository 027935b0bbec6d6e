"""Many small GANs as one batched program: instances of a cohort that share a process and a GPU.

A small network leaves most of a GPU idle. Here weights and optimiser states of several instances
are stacked, with an axis of instances in front (`stack`), and every step is made for all of them
at once (`step`), on batches that each instance draws as it does alone (`draws`), as one CUDA graph
where there is a GPU (`capture`). What an instance comes to is what it comes to alone, up to the
rounding of sums that are taken in another order; its state and result files have the same format,
so it can be taken up alone, or the other way round (`program`).

Which cohorts are trained this way is decided in `choice`, without torch.
"""
