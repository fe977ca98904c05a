# Images of what `make image` has built. Nothing is compiled or fetched here, so
# building them needs no registry.
ARG VERSION=dev
ARG REVISION=unknown

# The upstream of docker-compose.yml; it has no other use.
FROM scratch AS upstream
LABEL org.opencontainers.image.title="coatcheck-upstream" \
      org.opencontainers.image.description="Echoes what Envoy sends it; for trying Coatcheck" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
COPY .build/upstream /upstream
USER 65532:65532
HEALTHCHECK --interval=5s --timeout=2s --start-period=2s --retries=3 CMD ["/upstream", "-check"]
ENTRYPOINT ["/upstream"]

# One static program, without a shell and without public certificate authorities:
# Redis over TLS needs redis.tls.ca_file.
FROM scratch AS coatcheck
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="coatcheck" \
      org.opencontainers.image.description="External authorization for Envoy by sessions in Redis" \
      org.opencontainers.image.source="https://github.com/coatcheck/coatcheck" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY LICENSE /LICENSE
COPY .build/coatcheck /coatcheck
# An unprivileged user, by number, so that Kubernetes can verify that it is not root.
# The program writes no file: run it read-only.
USER 65532:65532
EXPOSE 9001 8080
# Reports readiness. It reads the same variables as serve, but not serve's flags: so
# name a configuration file with COATCHECK_CONFIG.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/coatcheck", "health"]
ENTRYPOINT ["/coatcheck"]
CMD ["serve"]
