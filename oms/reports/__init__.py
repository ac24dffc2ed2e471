"""Reports: what the figures of a time say, as tables (reference §28.1)."""
