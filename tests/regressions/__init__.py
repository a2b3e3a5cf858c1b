"""Faults that a review found and that no test had seen. Each test here failed before its mend."""
