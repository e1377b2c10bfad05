# The image of an operator: OPERATOR is capdkc, dynamoctl-dp-operator or nairobi-mysql-operator.
#
#   docker build --build-arg OPERATOR=capdkc .                      compiles it in the image RUST
#   cargo xtask images                                              the same without Docker and without pulling anything
#   docker build --target prebuilt --build-arg OPERATOR=capdkc .    takes what that has made
#
# For another architecture: `docker build --platform linux/arm64`. For development with live updates: tilt/Dockerfile.
#
# What the labels say is told by build arguments, since there is no git in here: VERSION (0.1.0), REVISION (`git log -1
# --format=%H`) and CREATED (that commit's time, as 2026-01-31T12:00:00Z).
ARG RUST=rust:1.95-trixie

# First, so that builders which make every stage up to the target make no more than this one.
FROM scratch AS prebuilt
ARG OPERATOR
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
COPY target/images/${OPERATOR}/root/ /
LABEL org.opencontainers.image.title=${OPERATOR} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.created=${CREATED}
ENV PATH=/usr/bin
USER 65532:65532
ENTRYPOINT ["/manager"]

FROM ${RUST} AS build
ARG OPERATOR
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
WORKDIR /operators
COPY . .
RUN cargo run --locked --package xtask -- images --no-load ${OPERATOR}

FROM scratch
ARG OPERATOR
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
COPY --from=build /operators/target/images/${OPERATOR}/root/ /
LABEL org.opencontainers.image.title=${OPERATOR} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.created=${CREATED}
ENV PATH=/usr/bin
USER 65532:65532
ENTRYPOINT ["/manager"]
