"""What every other package uses: errors, files, seeding, checkpoints, tables."""
