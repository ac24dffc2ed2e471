"""Everything about one order in one file that can be checked without the database."""
