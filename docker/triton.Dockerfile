# The one place that names the release. It carries Python 3.12 and, for its Python backend, numpy below 2.
ARG TRITON_TAG=26.07-py3
FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}

# Triton runs as the image's own user; a new volume takes over the owner of the folder it covers.
ENV HF_HOME=/var/cache/huggingface
RUN install -d -o triton-server -g triton-server /home/triton-server "$HF_HOME"

# An environment of its own: the image's Python is the distribution's, and its packages cannot be replaced. Triton's
# Python stub takes the environment of the first python3 on the PATH; before 24.11 it ignored PYTHONPATH, but no .pth.
# Only the pins are copied, so that a change of code reuses this layer. PyPI's torch also runs without a GPU; for a
# smaller one give the index that has it.
ENV PATH=/opt/venv/bin:$PATH
ARG PIP_EXTRA_INDEX_URL
COPY pyproject.toml /tmp/pins/
RUN --mount=type=cache,target=/root/.cache/pip \
    touch /tmp/pins/README.md \
    && python3 -m virtualenv /opt/venv \
    && /opt/venv/bin/python -m pip install '/tmp/pins[engine]' \
    && echo /opt/deepseek > "$(echo /opt/venv/lib/python3.*/site-packages)/deepseek.pth"

# The same neighbours as in the repository: 1/engine.json names its checkpoint relative to itself.
WORKDIR /opt/deepseek
COPY --chown=triton-server:triton-server demo/ demo/
COPY --chown=triton-server:triton-server model_repository/ model_repository/
COPY --chown=triton-server:triton-server engine/ engine/

COPY docker/serve_triton.py ./

USER 1000
EXPOSE 8001 8002 8003
CMD ["python3", "serve_triton.py", "deepseek", "http://localhost:8003", \
     "tritonserver", "--model-repository=/opt/deepseek/model_repository", "--disable-auto-complete-config", \
     "--exit-on-error=false", "--exit-timeout-secs=5", "--http-port=8003", "--grpc-port=8001", "--metrics-port=8002"]
