// What Talos's own programs are built from; see ../programs.toml. `go` must be 1.24.x: go-debug v0.5.0 builds with no later one.
module solana-talos/base/talos

go 1.24.0

require (
	github.com/siderolabs/talos v1.10.3
	github.com/siderolabs/talos/pkg/machinery v1.10.3
)

// The replacements of github.com/siderolabs/talos's go.mod, all but that of machinery, which is required above: Go ignores
// those of a dependency. A change of the version above takes that version's.
replace (
	cloud.google.com/go => cloud.google.com/go v0.100.2
	github.com/coredns/coredns => github.com/siderolabs/coredns v1.12.52
	github.com/insomniacslk/dhcp => github.com/smira/dhcp v0.0.0-20241001122726-31e9ef21c016
	github.com/mdlayher/ethtool => github.com/siderolabs/ethtool v0.4.0-sidero
	github.com/mdlayher/kobject => github.com/smira/kobject v0.0.0-20240304111826-49c8d4613389
	golang.zx2c4.com/wireguard => github.com/siderolabs/wireguard-go v0.0.0-20240401105714-9c7067e9d4b9
	golang.zx2c4.com/wireguard/wgctrl => github.com/siderolabs/wgctrl-go v0.0.0-20240401105613-579af3342774
	gopkg.in/yaml.v3 => github.com/unix4ever/yaml v0.0.0-20220527175918-f17b0f05cf2c
)
