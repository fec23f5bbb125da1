//! Networks of a machine.

/// A port of the host's loopback interface that leads to a port of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Port on 127.0.0.1.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
}

/// A network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// QEMU's own NAT: the guest gets 10.0.2.15 by DHCP and reaches the host's loopback interface at 10.0.2.2.
    User {
        /// Forwarded ports.
        forwards: Vec<Forward>,
    },
    /// An Ethernet segment that machines on this host share, over a multicast group that does not leave the loopback interface.
    Segment {
        /// UDP port that identifies the segment.
        port: u16,
        /// Last byte of the card's address; unique on the segment.
        address: u8,
    },
}

impl Network {
    /// Returns a NAT network with `forwards`.
    #[must_use]
    pub fn user(forwards: impl Into<Vec<Forward>>) -> Self {
        Self::User { forwards: forwards.into() }
    }

    /// Returns the arguments for card `number`.
    pub(crate) fn arguments(&self, number: usize) -> Vec<String> {
        let netdev = match self {
            Self::User { forwards } => {
                format!("user,id=net{number}{}", forwards.iter().map(forward).collect::<String>())
            }
            Self::Segment { port, .. } => format!("socket,id=net{number},mcast=230.0.0.1:{port},localaddr=127.0.0.1"),
        };
        let mac = match self {
            Self::User { .. } => String::new(),
            Self::Segment { address, .. } => format!(",mac=52:54:00:50:4c:{address:02x}"),
        };
        // Network boot would only delay the start.
        let device = format!("virtio-net-pci,netdev=net{number},romfile={mac}");
        vec!["-netdev".to_owned(), netdev, "-device".to_owned(), device]
    }
}

fn forward(Forward { host, guest }: &Forward) -> String {
    format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_listen_on_the_loopback_interface_only() {
        let network = Network::user([Forward { host: 5001, guest: 50000 }, Forward { host: 6443, guest: 6443 }]);
        assert_eq!(
            network.arguments(0)[1],
            "user,id=net0,hostfwd=tcp:127.0.0.1:5001-:50000,hostfwd=tcp:127.0.0.1:6443-:6443"
        );
        assert_eq!(Network::user([]).arguments(2)[1], "user,id=net2");
    }

    #[test]
    fn cards_of_a_segment_have_addresses_of_their_own() {
        let card = |address| Network::Segment { port: 4000, address }.arguments(1).join(" ");
        assert!(card(10).contains("mcast=230.0.0.1:4000,localaddr=127.0.0.1"), "{}", card(10));
        assert!(card(10).ends_with("mac=52:54:00:50:4c:0a"), "{}", card(10));
        assert_ne!(card(10), card(11));
    }
}
