"""Statistics: pure functions of numpy arrays, without files, torch or the study."""
