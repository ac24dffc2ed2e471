"""What leaves the system: events, their envelopes and their delivery."""
