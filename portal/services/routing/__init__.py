"""The way a request takes: a free slot of the least-loaded local server, else a place in line, else the cloud twin.

`ways` says where a request may go at all, `line` holds slots and places (in the store by `scripts`, or by `alone` while
the store is away), `connections` keeps the sockets. Knows no customer's socket and no credit.
"""
