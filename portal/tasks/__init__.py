"""The clock: what happens later. Thin tasks that call a service; the worker and the timetable that run them."""
