"""Signing up and in, sessions, passwords, phone numbers, keys: the rules, and their doors asked as a browser asks them."""
