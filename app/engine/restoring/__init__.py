"""Restoring: preview, staging, loading, the swap and the way back."""
