# The image: one static binary, for controller and sidecar.
#
#   docker build --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# It is built for the platform that builds it; another one (--platform) is emulated, or built on a machine of its own, as the
# release does. Two builds of the same sources with the same SOURCE_DATE_EPOCH give the same image (tests/image/run --twice).

# What is in a static binary only Cargo.lock tells: BuildKit's SBOM is made of the build's context, too. It tells of everything in
# Cargo.lock; the image has a list of its own, /sbom.cdx.json, of what is linked.
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true

# The compiler is part of what is reproduced.
FROM docker.io/library/rust:1.95.0-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
# What is not built by default, separated by commas: otlp.
ARG FEATURES=
# Static, the C library included, so that the image needs no other file. To name the target, even where it is the machine's own,
# keeps these flags from procedural macros, which cannot be static. Paths of the machine that built it are left out.
RUN set -eu; \
    target=$(rustc -vV | sed -n 's/^host: //p'); \
    export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=${CARGO_HOME:?}/registry/src/= --remap-path-prefix=/src/="; \
    cargo build --release --locked --features "${FEATURES-}" --bin podium --target "$target"; \
    mkdir /binary; \
    cp "target/$target/release/podium" /binary/podium

# What is linked, as CycloneDX: the crates as cargo resolves them for this target, and what comes with the compilers.
COPY image image
RUN set -eu; \
    target=$(rustc -vV | sed -n 's/^host: //p'); \
    cargo tree --locked --features "${FEATURES-}" --target "$target" --edges normal,no-proc-macro --prefix depth \
      --format "$(printf '\t{p}\t{l}\t{r}')" >/tmp/tree; \
    rustc --edition 2024 -o /tmp/sbom image/sbom.rs; \
    /tmp/sbom Cargo.lock "rust=$(rustc -vV | sed -n 's/^release: //p')" \
      "glibc=$(getconf GNU_LIBC_VERSION | sed 's/^glibc //')" "libgcc=$(gcc -dumpfullversion)" </tmp/tree >/binary/sbom.cdx.json

# The tree of the image. The links are the paths at which the pods of the sidecars that Podium replaces start their program;
# /tmp is where one of them had its status file, and nothing else may be written.
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

# `docker build --target binary --output DIRECTORY .` gives the binary alone, and the list of what is linked.
FROM scratch AS binary
COPY --from=build /binary /

# No certificates of authorities: a pod is given that of its API server with its ServiceAccount, a kubeconfig has its own, and
# nothing else is called. No passwd: the user is a number. No resolver's settings: those that there are the kubelet mounts.
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
