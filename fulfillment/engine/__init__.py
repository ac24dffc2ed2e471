"""The engine: units of work over locked fulfillments. See ARCHITECTURE.md for the path of an order."""
