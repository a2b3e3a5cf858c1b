"""The gateway's rule: admit → answer → settle.

`ask` reads a request, `admission` lets it in (limits, price, hold), `reply` follows the answer and meters it, `process`
holds what one worker shares among its requests. Knows no WSGI and no socket: transports are the door's business.
"""
