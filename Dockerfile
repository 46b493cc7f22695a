# syntax=docker/dockerfile:1
# The image of the gateway: one static program, the certificate authorities, and nothing to run a shell with.
#
#   docker build -t moat .
#   docker run -p 443:8443 -p 80:8080 -v "$PWD/gate:/etc/moat:ro" -v moat-state:/var/lib/moat moat
#
# scripts/package image builds the same root filesystem without an engine, and tries it out.
FROM rust:1.95.0-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev binutils ca-certificates \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /moat
COPY . .
RUN cargo rustc --locked --profile dist --bin moat -- -C target-feature=+crt-static \
    && objcopy --strip-all target/dist/moat /usr/local/bin/moat \
    && scripts/package.d/rootfs /usr/local/bin/moat /rootfs

FROM scratch
COPY --from=build /rootfs /
LABEL org.opencontainers.image.title="Moat" \
      org.opencontainers.image.description="A reverse-proxy security gateway for multi-tenant applications" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"
ENV MOAT_CONFIG=/etc/moat/gateway.yaml MOAT_STATE_DIR=/var/lib/moat
USER 65532:65532
WORKDIR /var/lib/moat
VOLUME /var/lib/moat
EXPOSE 8443/tcp 8080/tcp
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/moat", "health"]
ENTRYPOINT ["/moat"]
CMD ["run"]
