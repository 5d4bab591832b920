"""Delivery reports of calls, and the reasons of failures. Private."""
