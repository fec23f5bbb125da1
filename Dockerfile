# The toolchain as a container image: Debian 13 with exactly the packages of crates/toolchain/packages.list and crates/toolchain/judges.list, the lists
# that `./x build` bootstraps its own root filesystem from. Nothing in the project needs this image; it is for those whose machines run
# containers only.
#
#   docker build -t solana-talos-toolchain .        (or: podman build, buildah build)
#   docker run --rm -it -v "$PWD:/build/project" solana-talos-toolchain
#
# `./x build` inside it bootstraps its own root filesystem all the same, so that outputs do not depend on where it ran. For that it makes
# namespaces, hence --privileged, and installs what it needs itself: mmdebstrap, bubblewrap, and with rustup a Rust newer than Debian's
# (1.85 is for the kernel and the guest; the tool asks for 1.90).
#
#   docker run --rm -it --privileged -v "$PWD:/build/project" -v solana-talos:/root/.cache solana-talos-toolchain ./x build
#
# Where rustup's host cannot be reached, show the container a Rust of yours: -v "$HOME/.cargo:/root/.cargo" -v "$HOME/.rustup:/root/.rustup".
#
# The base is pinned by its suite, as the bootstrapped root filesystem is. To pin its bytes, name it by digest:
#
#   docker build --build-arg BASE=debian@sha256:<digest> -t solana-talos-toolchain .
#
# Versions may be newer than those in solana-talos.lock; `dpkg-query -W` says which they are.
ARG BASE=debian:trixie
FROM ${BASE} AS toolchain

COPY crates/toolchain/packages.list crates/toolchain/judges.list /tmp/lists/
# As in the bootstrapped one: no recommended packages, no manual pages, translations and documents. NAME/SUITE comes from the backports of
# the archive that the base uses, whatever its address.
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
