"""The REST API: strict JSON in, problem details out. docs/api.md describes it."""
