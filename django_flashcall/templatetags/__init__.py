"""Template tags of the admin. Private."""
