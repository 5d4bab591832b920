"""Data for the admin: statistics, timeline, provider health, mobile operators. Private."""
