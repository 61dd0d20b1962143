# The image of Bough: one static program, an account without rights, a root that nothing writes to.
# `cargo xtask image` makes the same one without a container engine.
FROM docker.io/library/rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo build --release --package bough && cp target/*-unknown-linux-gnu/release/bough /bough
RUN echo 'nonroot:x:65532:65532::/:/sbin/nologin' >/passwd && echo 'nonroot:x:65532:' >/group && mkdir -m 1777 /empty

FROM scratch
COPY --from=build /passwd /group /etc/
COPY --from=build /empty /tmp
COPY --from=build /bough /bough
USER 65532:65532
ENV PATH=/
ENTRYPOINT ["/bough"]
