"""The performance record: what is timed against whom, what was measured, and the pages made of it."""
