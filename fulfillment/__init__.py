"""The orchestrator: plans, their tasks, and what people do to them. It knows nothing of orders."""
