"""Stand-ins for the world outside the portal, speaking the real wire protocols over HTTP.

Used by `make run` and by the tests, through the product's own clients. Nothing here may import `portal`, and nothing
in `portal` knows that this package exists except by URL. The story starts in `__main__.py`; each outside has its own
module.
"""
