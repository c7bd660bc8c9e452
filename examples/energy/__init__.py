"""Energy meters: weekly partitions, rows with a key of two columns, and what predicts a week from the one before."""
