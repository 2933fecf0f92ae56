"""The checks of `flask doctor`: every setting, server, permission and version, and what to do about each."""
