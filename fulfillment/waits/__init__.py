"""Why a task waits: for what, kept by whom, until when, and in which words."""
