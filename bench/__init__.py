"""Measuring: what sessions cost (bench/sessions), what TLS costs (bench/tls), what visitors notice (tests/lib/load)."""
