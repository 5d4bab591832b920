"""A gateway of django-two-factor-auth that calls: its codes arrive by flash call."""
