"""What happened to a call after it was placed: delivery reports and their reasons. Private."""
