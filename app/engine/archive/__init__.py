"""The archive format: gzip members, tar headers, manifest; writing, reading, verifying, and archives of others."""
