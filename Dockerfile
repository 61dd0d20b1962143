# The image of Bough: one static program, an account without rights, a root that nothing writes to.
# `cargo xtask image` makes the same one without a container engine.
FROM docker.io/library/rust:1.95.0-bookworm AS build
# The image's own toolchain is the one of rust-toolchain.toml; rustup is not to get what only developers need beside it.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /source
COPY . .
RUN cargo build --release --locked --package bough
# One directory, copied with all below it: a directory that COPY makes by itself is 0755, whatever it was.
RUN mkdir -p /image/etc && mkdir -m 1777 /image/tmp \
    && echo 'nonroot:x:65532:65532::/:/sbin/nologin' >/image/etc/passwd \
    && echo 'nonroot:x:65532:' >/image/etc/group \
    && cp target/*-unknown-linux-gnu/release/bough /image/bough

FROM scratch
COPY --from=build /image/ /
USER 65532:65532
ENV PATH=/
ENTRYPOINT ["/bough"]
