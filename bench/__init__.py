"""Benchmarks of sessions (bench/sessions) and of TLS (bench/tls); tests/lib/load is the load generator."""
