"""Read models: what pages, the API and commands show of how things stand. They change nothing."""
