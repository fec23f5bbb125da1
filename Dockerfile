# The toolchain as a container image: Debian 13 with exactly the packages of crates/toolchain/{packages,base,reference-tools}.list, as in the
# root filesystem that `./x build` bootstraps. The build does not use this image; it is for machines that only run containers.
#
#   docker build -t solana-talos-toolchain .        (or: podman build, buildah build)
#   docker run --rm -it -v "$PWD:/build/project" solana-talos-toolchain
#
# `./x build` in the container still bootstraps its own root filesystem, so outputs do not depend on the host. It creates namespaces, hence
# --privileged, and installs mmdebstrap, bubblewrap, and with rustup a newer Rust than Debian's (1.85 is for the kernel and the guest; the
# tool needs 1.90).
#
#   docker run --rm -it --privileged -v "$PWD:/build/project" -v solana-talos:/root/.cache solana-talos-toolchain ./x build
#
# Without access to rustup's host, mount your Rust: -v "$HOME/.cargo:/root/.cargo" -v "$HOME/.rustup:/root/.rustup".
#
# The base image is pinned by its suite. To pin its bytes, name it by digest:
#
#   docker build --build-arg BASE=debian@sha256:<digest> -t solana-talos-toolchain .
#
# Versions may be newer than those in solana-talos.lock; `dpkg-query -W` shows them.
ARG BASE=debian:trixie
FROM ${BASE} AS toolchain

COPY crates/toolchain/packages.list crates/toolchain/base.list crates/toolchain/reference-tools.list /tmp/lists/
# As in the bootstrapped root filesystem: no recommended packages, manual pages, translations and documents. NAME/SUITE comes from the
# backports of the archive that the base image uses.
RUN printf 'path-exclude=/usr/share/%s/*\n' man locale doc >/etc/dpkg/dpkg.cfg.d/solana-talos \
 && printf 'path-include=/usr/share/doc/*/copyright\nforce-unsafe-io\n' >>/etc/dpkg/dpkg.cfg.d/solana-talos \
 && apt-get update -q \
 && archive=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: trixie' | head -n 1) \
 && echo "deb $archive trixie-backports main" >/etc/apt/sources.list.d/backports.list \
 && apt-get update -q \
 && sed 's/#.*//' /tmp/lists/*.list | DEBIAN_FRONTEND=noninteractive xargs apt-get install -y -q --no-install-recommends \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb /tmp/lists

ENV LC_ALL=C TZ=UTC
WORKDIR /build/project
