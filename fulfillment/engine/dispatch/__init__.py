"""From the queue to a target system and back: claim, send, receive, sweep."""
