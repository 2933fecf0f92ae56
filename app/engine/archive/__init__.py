"""The archive format: gzip members, tar headers, manifest."""
