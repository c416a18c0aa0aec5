"""Notifications: tell people of decisions."""
