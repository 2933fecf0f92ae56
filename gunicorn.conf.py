"""What gunicorn needs wherever it runs the app: it reads this file from the directory that it is started in."""

# --threads is the number of requests that are worked on at once; slow clients don't count.
worker_class = "app.http.server.Worker"
