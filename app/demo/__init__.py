"""The embedded stack of `make demo`: real servers from wheels, a sample app, and the processes of this app on top."""
