// containerd of the same major version as the configuration in Talos's module (hack/containerd.toml: `version = 3`).
module solana-talos/base/containerd

go 1.23.0

require github.com/containerd/containerd/v2 v2.0.5
