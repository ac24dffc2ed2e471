"""PostgreSQL and Redis of our own, from the binaries that two wheels carry."""
