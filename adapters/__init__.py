"""The doors to target systems: one contract, and each way to reach a system that keeps it."""
