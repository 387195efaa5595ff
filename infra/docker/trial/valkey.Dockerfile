# Stand-in for the official Valkey image, for a trial: see images.sh.
ARG BASE
FROM ${BASE}
RUN groupadd -r -g 999 valkey && useradd -r -g valkey -u 999 valkey && install -d -o valkey -g valkey -m 1777 /data
COPY --chmod=755 valkey-server valkey-cli /usr/local/bin/
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["valkey-server", "--protected-mode", "no"]
