"""The demo: real orders through the whole stack, shown while it happens, counted at the end."""
