# The service on a CPU, without root. Not built by this project's tests.
#
#   make wheel
#   docker build --tag alexnet .
#   docker run --env ALEXNET_TOKEN=secret --publish 8000:8000 --volume "$PWD/run:/model:ro" alexnet
#
# /model is a run's directory, a model file, or a folder of runs. CPU_TORCH_INDEX may name a package
# index with CPU builds of torch: on x86-64 the default ones bring several GB of libraries for GPUs.
FROM python:3.12-slim

ARG CPU_TORCH_INDEX=""

# The kernels are compiled at first use, for the processor they run on.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

COPY constraints.txt dist/alexnet-*.whl /tmp/alexnet/
RUN export PIP_EXTRA_INDEX_URL="$CPU_TORCH_INDEX" PIP_NO_CACHE_DIR=1 \
    && pip install --constraint /tmp/alexnet/constraints.txt torch==2.13.0 \
    && pip install --constraint /tmp/alexnet/constraints.txt "$(ls /tmp/alexnet/*.whl)[serve]"

RUN useradd --create-home alexnet
USER alexnet
WORKDIR /home/alexnet

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz')"]

# Others can reach it, so it does not start without ALEXNET_TOKEN.
CMD ["alexnet", "serve", "/model", "--host", "0.0.0.0"]
