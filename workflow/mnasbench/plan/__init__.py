"""What is computed before a job starts: names of files, arguments of steps, what is stale and why, resources, room."""
