"""One task: how it begins, and what becomes of it by what is known of its command."""
