"""What keeps target systems and orders from harm: limits, holds and locks."""
