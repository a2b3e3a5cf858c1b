"""Signing up and in, sessions, passwords, phone numbers, keys: the rules, and their doors as a browser asks."""
