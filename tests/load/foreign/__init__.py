"""Run by other interpreters than ours: what we are measured beside, and what draws the plots."""
