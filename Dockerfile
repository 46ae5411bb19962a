# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
# The caches keep dependencies over builds; the binary is copied out, since they are not part of the
# image.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --locked --release --bin walhook \
    && cp target/release/walhook /usr/local/bin/walhook

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --home-dir /nonexistent walhook \
    && install -d -o walhook -g walhook -m 0750 /var/lib/walhook
COPY --from=build /usr/local/bin/walhook /usr/local/bin/walhook

# The journal lives here: mount a volume, or a new container begins with an empty one.
WORKDIR /var/lib/walhook
VOLUME /var/lib/walhook
ENV WALHOOK_CONFIG=/etc/walhook/walhook.toml
USER walhook

# Asks the database and the journal, as `walhook status` does for people.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["walhook", "status"]

ENTRYPOINT ["walhook"]
CMD ["run"]
