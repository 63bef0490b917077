"""The daemon: a reverse proxy in front of routers, on aiohttp (the ``serve`` extra), and its own API.

Clients keep their URL and Corral listens there. One loop owns all state; what decides is pure and lies in ``ops``.
"""
