# The worker of docker-compose.yml, and the whole of gradtrace: `docker run gradtrace-worker --help`.
#
# A torch without CUDA (much smaller): docker compose build --build-arg TORCH_INDEX=<the CPU index that PyTorch's
# installation page names>. A package with workloads of your own: `FROM gradtrace-worker`, then `pip install` as root.
FROM python:3.13-slim

ARG TORCH_INDEX=""
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# What is installed changes less often than the code: this layer is kept when only the code changes.
COPY constraints.txt ./
RUN if [ -n "$TORCH_INDEX" ]; then \
        pip install "$(grep '^torch==' constraints.txt)" --index-url "$TORCH_INDEX"; \
    else \
        pip install -c constraints.txt torch; \
    fi

COPY pyproject.toml README.md LICENSE ./
COPY tracer tracer
COPY service service
COPY queries queries
RUN pip install -c constraints.txt . && rm -rf /src/*

# Kernels are compiled on first use and kept with the data, since the root file system may be read-only.
ENV GRADTRACE_DATA=/data GRADTRACE_CACHE=/data/cache NUMBA_CACHE_DIR=/data/cache/numba HOME=/data
RUN useradd --uid 10001 --home-dir /data --no-create-home gradtrace && install -d -o gradtrace -m 0700 /data
USER gradtrace
WORKDIR /data
VOLUME /data
ENTRYPOINT ["gradtrace"]
CMD ["worker"]
