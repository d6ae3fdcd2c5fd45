FROM python:3.12-slim

# A new volume takes over the owner of the folder it covers.
RUN useradd --uid 1000 --create-home adapter \
    && install -d -o adapter -g adapter /var/lib/deepseek/jobs /var/lib/deepseek/keys

# Only the pins are copied, so that a change of code reuses this layer.
COPY pyproject.toml /tmp/pins/
RUN --mount=type=cache,target=/root/.cache/pip \
    touch /tmp/pins/README.md && python -m pip install '/tmp/pins[adapter]'

WORKDIR /opt/deepseek
ENV PYTHONUNBUFFERED=1
COPY --chown=adapter:adapter adapter/ adapter/

USER 1000
EXPOSE 8000
CMD ["python", "-m", "adapter"]
