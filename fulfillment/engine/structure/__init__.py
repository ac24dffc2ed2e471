"""The structure of a running plan: its places, its values, its branches and its elements."""
