"""How long things may take, when clocks stand still, and what will be late."""
