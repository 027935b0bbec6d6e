"""What every room stands on: errors, seeding, checkpoints, workers, resume state, tracking."""
