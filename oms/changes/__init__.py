"""Changing an order that runs: cancelling it."""
