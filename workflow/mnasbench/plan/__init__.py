"""What is computed before a job starts: names, arguments, what is stale and why, resources."""
