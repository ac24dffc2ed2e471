"""A process that plays the target systems, and keeps the books on what they really did.

It is meant for the demo, the tests and whoever writes a workflow: each system has a character
(does it deduplicate, can it be asked), each can be told to misbehave, and the ledger counts
every side effect per idempotency key. docs/sandbox.md is its manual.
"""
