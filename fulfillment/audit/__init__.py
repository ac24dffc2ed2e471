"""Whether history is as it was written: sealed every minute, and verified on demand."""
