# One image for the five roles; the command picks one: `docker run eunoe api`.
# Without the extras `embedded` and `dev`: in production the stores are deployments of their own.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/eunoe
ENV PATH=/opt/eunoe/bin:$PATH
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
# Dependencies first, around an empty package: a change of our code leaves this layer cached.
RUN mkdir shared services && pip install -c constraints.txt .
COPY shared shared
COPY services services
RUN pip install -c constraints.txt --no-deps --force-reinstall .

FROM python:3.11-slim-bookworm
# Safe path: nothing is imported from the working directory, whatever somebody mounts there.
ENV PATH=/opt/eunoe/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    HOME=/tmp \
    EUNOE_HOST=0.0.0.0 \
    EUNOE_DATA_DIR=/var/lib/eunoe
# Numeric, so that Kubernetes can prove that it is not root (runAsNonRoot).
RUN install -d -o 10001 -g 10001 /var/lib/eunoe
COPY --from=build /opt/eunoe /opt/eunoe
WORKDIR /opt/eunoe
USER 10001:10001
# 8001 is the API; the others are the admin servers (/livez /readyz /metrics /version).
EXPOSE 8001 9101 9102 9103 9104 9105
STOPSIGNAL SIGTERM
# `sh` hands its place to Python, which so receives SIGTERM itself; `$0` is the role.
# No HEALTHCHECK here: its command names the role, so compose and Kubernetes set it.
ENTRYPOINT ["/bin/sh", "-c", "exec python -m \"services.$0\" \"$@\""]
CMD ["api"]
