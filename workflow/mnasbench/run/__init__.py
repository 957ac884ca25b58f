"""Stage run: sessions, performance and accuracy runs."""
