"""Who may do what: one default-deny answer, asked by the command layer alone (reference §30)."""
