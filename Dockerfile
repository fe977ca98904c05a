# Images of what `make image` has built: nothing is compiled or fetched here, so
# they can be made without a registry.
ARG VERSION=dev
ARG REVISION=unknown

# The upstream of docker-compose.yml, and of nothing else.
FROM scratch AS upstream
LABEL org.opencontainers.image.title="coatcheck-upstream" \
      org.opencontainers.image.description="Echoes what Envoy sends it; for trying Coatcheck" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY LICENSE /LICENSE
COPY .build/upstream /upstream
USER 65532:65532
HEALTHCHECK --interval=5s --timeout=2s --start-period=2s --retries=3 CMD ["/upstream", "-check"]
ENTRYPOINT ["/upstream"]

# One static program, and no shell. There are no public certificate authorities
# either: Redis over TLS needs redis.tls.ca_file.
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
# Nobody, by number, so that Kubernetes can see that it is not root. It writes no
# file: run it read-only.
USER 65532:65532
EXPOSE 9001 8080
# Ready, not merely alive. It reads the same variables as serve, but not its flags:
# name a configuration file by COATCHECK_CONFIG.
HEALTHCHECK --interval=5s --timeout=3s --start-period=5s --retries=3 CMD ["/coatcheck", "health"]
ENTRYPOINT ["/coatcheck"]
CMD ["serve"]
