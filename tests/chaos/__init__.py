"""Faults on purpose, and a judge who knows nothing of the engine's code: `make chaos`."""
