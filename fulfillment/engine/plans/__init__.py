"""A plan as a whole: planned, selected from, settled, scanned, migrated."""
