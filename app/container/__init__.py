"""What compose.yaml runs besides web, worker and scheduler: the first start, and "is this process alive?"."""
