"""Measuring: what sessions cost (bench/sessions), what visitors notice (bench/load)."""
