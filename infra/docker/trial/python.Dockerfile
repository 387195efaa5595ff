# Stand-in for the official full Python image (the slim one with a toolchain, of which only strip is needed): images.sh.
ARG BASE
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
