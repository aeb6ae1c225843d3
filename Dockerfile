# The command in a container: `docker build -t sanarestore .`, and see docs/install.md for how to run it.
#
# PyTorch comes from PyPI, whose builds for Linux on x86-64 run on CPUs and on NVIDIA GPUs. `--build-arg TORCH_INDEX=...`
# names another index of PyTorch's, such as that of builds for CPUs only, which are several gigabytes smaller.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir "build==1.*" \
    && python -m build --wheel --outdir /wheels

FROM python:${PYTHON}-slim
ARG TORCH_INDEX=""
ARG EXTRAS="heif,raw"
COPY constraints.txt /wheels/
COPY --from=wheel /wheels/*.whl /wheels/
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install --no-cache-dir --constraint /wheels/constraints.txt --index-url "$TORCH_INDEX" torch; \
    fi \
    && pip install --no-cache-dir --constraint /wheels/constraints.txt "$(echo /wheels/*.whl)[$EXTRAS]" \
    && rm -r /wheels \
    && useradd --create-home --uid 1000 photographer \
    && install --directory --mode 1777 /cache /photos

# Downloaded weights and settings are kept here; mount a volume to keep them from run to run.
ENV XDG_CACHE_HOME=/cache XDG_CONFIG_HOME=/cache/config XDG_DATA_HOME=/cache/data HF_HOME=/cache/huggingface
VOLUME /cache
USER 1000
WORKDIR /photos
ENTRYPOINT ["sanarestore"]
CMD ["--help"]
