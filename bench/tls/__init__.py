"""The cost of TLS on the connections inside a cluster, measured on this host: `make bench-tls`."""
