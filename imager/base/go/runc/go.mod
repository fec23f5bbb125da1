// runc 1.2: 1.1 executes a copy of itself in a memfd, which SELinux in enforcing mode denies.
module solana-talos/base/runc

go 1.22

require github.com/opencontainers/runc v1.2.6
