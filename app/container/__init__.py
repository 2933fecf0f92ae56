"""The commands that compose.yaml runs besides web, worker and scheduler: the first start and the health checks."""
