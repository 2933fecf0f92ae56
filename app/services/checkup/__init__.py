"""What `flask doctor` looks at: every setting, server, permission and version, and what to do about each."""
