"""Read models about orders: how far they are, what keeps them, what their customers know."""
