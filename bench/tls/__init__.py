"""What TLS costs on the hops inside a cluster, on this computer: `make bench-tls`."""
