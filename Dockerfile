# embedsync in a container: built with locked, hashed dependencies; run without build tools, shell or root.
#
#   docker build -t embedsync .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges --tmpfs /tmp --stop-timeout 60 \
#       -v embedsync:/var/lib/embedsync -v ~/Pictures:/pictures:ro -e IMAGES_DIR=/pictures -e AUTH_TOKEN=… \
#       -p 127.0.0.1:8000:8000 embedsync

FROM python:3.12-slim-bookworm AS build
WORKDIR /build
RUN ["python", "-m", "venv", "/opt/embedsync"]
COPY requirements/all.lock requirements/all.lock
RUN ["/opt/embedsync/bin/python", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--no-deps", "--require-hashes", "-r", "requirements/all.lock"]
COPY state /opt/embedsync/app/state
COPY handlers /opt/embedsync/app/handlers
COPY daemon /opt/embedsync/app/daemon
RUN ["/opt/embedsync/bin/python", "-m", "compileall", "-q", "/opt/embedsync/app"]
RUN ["/opt/embedsync/bin/python", "-m", "pip", "uninstall", "--yes", "--quiet", "pip"]
# A volume that is made for the state takes its owner from here.
RUN ["mkdir", "-p", "-m", "700", "/var/lib/embedsync"]

FROM python:3.12-slim-bookworm
ARG REVISION=unknown
LABEL org.opencontainers.image.title="embedsync" \
      org.opencontainers.image.description="Keeps an embedding of every image fresh, and answers searches from them." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.12-slim-bookworm"
# The platform's SDK looks into files with libmagic, and loads OpenCV, which wants GL and GLib.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 libmagic1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/embedsync /opt/embedsync
COPY --from=build --chown=65532:65532 /var/lib/embedsync /var/lib/embedsync
ENV PYTHONPATH=/opt/embedsync/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    HOME=/var/lib/embedsync \
    STATE_DIR=/var/lib/embedsync \
    HOST=0.0.0.0 \
    PORT=8000 \
    LOG_FORMAT=json
USER 65532:65532
WORKDIR /var/lib/embedsync
VOLUME /var/lib/embedsync
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/opt/embedsync/bin/python", "-m", "daemon", "health"]
ENTRYPOINT ["/opt/embedsync/bin/python", "-m", "daemon"]
CMD ["run"]
