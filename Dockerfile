# The image of controller and sidecar: one static binary.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Build other platforms (--platform) by emulation, or on a native machine as the release workflow does. Builds of the same sources
# with the same SOURCE_DATE_EPOCH give the same image (tests/image/run --twice).

# BuildKit scans the context, too, because a static binary does not list its crates. That SBOM lists everything in Cargo.lock;
# /sbom.cdx.json in the image lists what is linked.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

# A fixed compiler version, for reproducible builds.
FROM docker.io/library/rust:1.95.0-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
# Cargo reads the manifest of every member of the workspace, but compiles none of this one.
COPY tests/support/Cargo.toml tests/support/
COPY src src
# Cargo features, separated by commas: otlp.
ARG FEATURES=
# The binary is static, including the C library. An explicit --target keeps these flags from procedural macros, which cannot be
# static. Paths of the build machine are removed.
RUN set -eu; \
    target=$(rustc -vV | sed -n 's/^host: //p'); \
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=${CARGO_HOME:?}/registry/src/= --remap-path-prefix=/src/="; \
    cargo build --release --locked --features "${FEATURES-}" --bin podium --target "$target"; \
    mkdir /binary; \
    cp "target/$target/release/podium" /binary/podium

# A CycloneDX SBOM of what is linked: the crates that cargo resolves for this target, and the libraries of the compilers.
COPY image image
RUN set -eu; \
    target=$(rustc -vV | sed -n 's/^host: //p'); \
    cargo tree --locked --features "${FEATURES-}" --target "$target" --edges normal,no-proc-macro --prefix depth \
      --format "$(printf '\t{p}\t{l}\t{r}')" >/tmp/tree; \
    rustc --edition 2024 -o /tmp/sbom image/sbom.rs; \
    /tmp/sbom Cargo.lock "rust=$(rustc -vV | sed -n 's/^release: //p')" \
      "glibc=$(getconf GNU_LIBC_VERSION | sed 's/^glibc //')" "libgcc=$(gcc -dumpfullversion)" </tmp/tree >/binary/sbom.cdx.json

# The root directory of the image. The links are the program paths of the sidecars that Podium replaces. /tmp, where one of them
# has its status file, is the only writable directory.
COPY LICENSE /image/LICENSE
ARG SOURCE_DATE_EPOCH=0
RUN set -eu; \
    cd /image; \
    mkdir app tmp; \
    chmod 1777 tmp; \
    cp /binary/podium /binary/sbom.cdx.json .; \
    ln -s /podium server; \
    ln -s /podium app/server; \
    ln -s /podium main; \
    chmod -R u=rwX,go=rX LICENSE app podium sbom.cdx.json; \
    find . -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# `docker build --target binary --output DIRECTORY .` exports the binary and its SBOM.
FROM scratch AS binary
COPY --from=build /binary /

# No CA certificates: the ServiceAccount or the kubeconfig contains the CA of the API server, the only server that Podium calls.
# No passwd: the user is a number. No resolv.conf: the kubelet mounts it.
FROM scratch
ARG VERSION=unreleased
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Podium" \
      org.opencontainers.image.description="Leader election as a Kubernetes resource: controller and sidecar" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/podium-dev/podium" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /image /
USER 65532:65532
ENTRYPOINT ["/podium"]
