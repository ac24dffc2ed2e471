"""The unit of work: everything that changes together, and what is written with it."""
