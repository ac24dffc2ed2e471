"""Orders that change, or are given up, while they are fulfilled."""
