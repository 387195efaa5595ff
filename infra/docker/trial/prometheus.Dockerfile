# Stand-in for the official Prometheus image, for a trial: see images.sh.
ARG BASE
FROM ${BASE}
COPY prometheus promtool /bin/
RUN install -d -o nobody -g nogroup /prometheus /etc/prometheus
USER 65534
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
