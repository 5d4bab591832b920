"""What operators read: statistics, timeline, provider health, mobile operators. Private."""
