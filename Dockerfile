# The server with the bundled model and only what serving needs: no TensorFlow, no Jupyter.
#   docker build -t face-emotion . && docker run -p 127.0.0.1:8001:8001 face-emotion
# docs/operation.md describes settings, your own model, and several replicas.
FROM python:3.11.9-slim-bookworm AS build
WORKDIR /build
COPY requirements/serve-py311.txt ./
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --no-deps -r serve-py311.txt
COPY settings.ini setup.py README.md ./
COPY face_emotion ./face_emotion
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11.9-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /srv/face_emotion face_emotion \
    && install -d -o face_emotion /srv/face_emotion/logs
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 SERVER_HOST=0.0.0.0 LOG_DIR=/srv/face_emotion/logs
USER 10001
WORKDIR /srv/face_emotion
EXPOSE 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8001/readyz', timeout=4)"]
CMD ["python", "-m", "face_emotion.serve"]
