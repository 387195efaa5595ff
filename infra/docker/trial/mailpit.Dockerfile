# Stand-in for the Mailpit image, for a trial: see images.sh.
ARG BASE
FROM ${BASE}
COPY --chmod=755 mailpit /mailpit
EXPOSE 1025 8025
ENTRYPOINT ["/mailpit"]
