"""What happened, by the day: counted from the audit trail, so that reports answer at once."""
