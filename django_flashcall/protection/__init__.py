"""What limits calls: limits, rules, fraud guard, challenge, visitors' networks. Private."""
