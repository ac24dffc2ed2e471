"""What everything else stands on: the database, and what is read from it once per process."""
