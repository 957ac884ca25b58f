"""Stage build: from an exported model to the three files that an engine runs."""
