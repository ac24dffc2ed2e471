"""The engine: units of work over locked fulfillments. ARCHITECTURE.md draws the path."""
