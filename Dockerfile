# The pipeline and all that it needs; docs/install.md says how to run it so that no result is lost.
#   docker build --tag softprompt .
#   docker build --tag softprompt --build-arg TORCH=cuda .
FROM debian:bookworm-slim

# cpu: PyTorch's own, small build | cuda: the one on PyPI, for GPUs of NVIDIA's. The driver is the host's either way.
ARG TORCH=cpu
# More of Debian's packages. Some tests need a browser: chromium
ARG PACKAGES=

# With g++ and Python's headers torch compiles (train.torch_compile). Whose a mounted workspace is does not matter in a
# container, which holds nothing else.
# hadolint ignore=DL3008,SC2086
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates g++ git make python3-dev python3-venv $PACKAGES \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system safe.directory '*' \
    && useradd --create-home --uid 1000 softprompt \
    && install --directory --owner softprompt --mode 777 /softprompt

USER 1000
WORKDIR /softprompt

# A clone: what is committed, without the secrets that .git/config and .dvc/config.local may hold. All may be written by
# all, for a container may run as any user: docker run --user, and editors, which give theirs the user's own number.
RUN --mount=type=bind,target=/source --mount=type=cache,target=/tmp/pip,uid=1000 \
    umask 0 \
    && git clone --quiet file:///source . \
    && git remote remove origin \
    && export PIP_CACHE_DIR=/tmp/pip \
    && case "$TORCH" in \
        cpu) python3 -m venv /tmp/uv \
            && /tmp/uv/bin/pip install uv \
            && /tmp/uv/bin/uv --no-cache venv \
            && /tmp/uv/bin/uv --no-cache pip install --torch-backend cpu -r requirements.lock -e . \
            && pwd -P > .venv/installed ;; \
        cuda) ;; \
        *) echo "error: TORCH is '$TORCH'; allowed: cpu | cuda" >&2; exit 1 ;; \
    esac \
    && make setup \
    && rm -rf /tmp/uv

ENV PATH=/softprompt/.venv/bin:$PATH
CMD ["bash"]
