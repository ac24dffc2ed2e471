"""Changing an order that runs: amending it, cancelling it."""
