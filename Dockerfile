# One image for every role: `docker run tocsin scheduler`, `… worker`, `… notifier`, `… api`, `… migrate`.
FROM python:3.11-slim AS build
WORKDIR /app
COPY requirements.txt requirements.in pyproject.toml README.md LICENSE ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY api api
COPY common common
COPY migrations migrations
COPY notifier notifier
COPY scheduler scheduler
COPY worker worker
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --uid 10001 --no-create-home tocsin
COPY --from=build /venv /venv
USER tocsin
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 TOCSIN_BIND=0.0.0.0 TOCSIN_DATA_DIR=/tmp/tocsin
EXPOSE 8000
ENTRYPOINT ["tocsin"]
CMD ["api"]
