// The CNI plugins that Talos has in /opt/cni/bin, except flannel's.
module solana-talos/base/cni

go 1.23.0

require github.com/containernetworking/plugins v1.7.1
