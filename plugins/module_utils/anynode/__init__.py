"""Code that several of the project's modules share."""
