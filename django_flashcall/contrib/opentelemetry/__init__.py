"""Metrics for OpenTelemetry and Prometheus, recorded from the signals of the app."""
