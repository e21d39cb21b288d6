# syntax=docker/dockerfile:1

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=
# timetzdata puts the time zones into the binary, so that TZ works without files.
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags timetzdata \
      -ldflags "-s -w -X github.com/sluice-gateway/sluice/core/telemetry.version=${VERSION} -X github.com/sluice-gateway/sluice/core/telemetry.commit=${COMMIT}" \
      -o /out/sluice ./cmd/sluice \
 && mkdir -p /out/data /out/logs

# A static busybox: health checks of the cluster guide call sh, wget, grep and awk.
FROM busybox:1.37-musl
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/LICENSE /LICENSE
COPY --from=build /out/sluice /sluice
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/logs /app/logs
ENV SLUICE_NODE__DATA_DIR=/data SLUICE_LOG__DIR=/app/logs
USER 65532:65532
WORKDIR /data
VOLUME ["/data", "/app/logs"]
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=10s --start-period=20s --retries=3 CMD ["/sluice", "healthcheck"]
ENTRYPOINT ["/sluice"]
CMD ["serve"]
