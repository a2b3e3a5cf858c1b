"""Proof that the stand-ins behave as the real outside does; real HTTP against a process of their own."""
