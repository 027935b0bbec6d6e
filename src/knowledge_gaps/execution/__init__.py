"""Where and when trainings run; nothing here decides a byte of a result."""
