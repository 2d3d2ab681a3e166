"""Load generator: logged-in users send requests through the balancer, and each response is verified.

See `python -m lib.load --help`.
"""
