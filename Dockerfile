# The service. Build: docker build -t onebranch .   Run: see docs/guides/serve.md.
FROM python:3.13-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ make && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml constraints.txt CMakeLists.txt README.md LICENSE ./
COPY src ./src
# Compiled for the oldest processors of its kind: the engine chooses its instruction set when it runs.
ENV ONEBRANCH_ENGINE_REQUIRED=1
RUN python -m venv /opt/onebranch && /opt/onebranch/bin/pip install --no-cache-dir -c constraints.txt '.[serve]'

FROM python:3.13-slim-bookworm
COPY --from=build /opt/onebranch /opt/onebranch
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin onebranch
USER 10001:10001
ENV PATH=/opt/onebranch/bin:$PATH PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
WORKDIR /tmp
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["onebranch", "serve", "--host", "0.0.0.0", "--port", "8000"]
