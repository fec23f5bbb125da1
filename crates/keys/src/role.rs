//! Roles of keys.

use std::fmt;

use crate::signer::Algorithm;

/// What a key is used for. One key has one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Signs kernel modules; its certificate is built into the kernel.
    Module,
    /// Secure Boot platform key (PK): owns the machine's key databases.
    PlatformKey,
    /// Secure Boot key exchange key (KEK): signs changes of `db`.
    KeyExchangeKey,
    /// Secure Boot signature database (`db`): signs systemd-boot and the unified kernel image.
    SignatureDatabase,
    /// Signs the PCR values that a TPM unseals the disk key for.
    PcrPolicy,
    /// Signs images in a registry, their SBOMs and their provenance.
    Image,
}

impl Role {
    /// All roles, in the order they are shown.
    pub const ALL: [Self; 6] =
        [Self::Module, Self::PlatformKey, Self::KeyExchangeKey, Self::SignatureDatabase, Self::PcrPolicy, Self::Image];

    /// Name of the role: prefix of its file names, and its table in `keys.toml`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Module => "module",
            Self::PlatformKey => "pk",
            Self::KeyExchangeKey => "kek",
            Self::SignatureDatabase => "db",
            Self::PcrPolicy => "pcr",
            Self::Image => "image",
        }
    }

    /// Returns the role with that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Describes what the key signs.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Module => "signs kernel modules; its certificate is built into the kernel",
            Self::PlatformKey => "Secure Boot PK: owns a machine's key databases, signs changes of PK and KEK",
            Self::KeyExchangeKey => "Secure Boot KEK: signs changes of db and dbx",
            Self::SignatureDatabase => "Secure Boot db: signs systemd-boot and the unified kernel image",
            Self::PcrPolicy => "signs the PCR values for which a TPM unseals the disk encryption key",
            Self::Image => "signs images, their SBOMs and their provenance",
        }
    }

    /// Describes how the key is rotated; `docs/keys.md` has the steps.
    pub const fn rotation(self) -> &'static str {
        match self {
            Self::Module => {
                "with a new kernel: build with the new set, then upgrade; modules signed with the old key no longer load"
            }
            Self::PlatformKey => "enrol the new PK, signed with the old one (or in the firmware's setup mode)",
            Self::KeyExchangeKey => "enrol the new KEK, signed with PK",
            Self::SignatureDatabase => {
                "add the new certificate to db (signed with KEK), upgrade every machine, then put the old one into dbx"
            }
            Self::PcrPolicy => {
                "upgrade once to an image that carries both policies, re-enrol the disk keys, then drop the old key"
            }
            Self::Image => "publish the new public key, re-sign the images still in use, then withdraw the old key",
        }
    }

    /// Whether the public half is an X.509 certificate rather than a bare public key.
    pub const fn has_certificate(self) -> bool {
        !matches!(self, Self::PcrPolicy | Self::Image)
    }

    /// The signature scheme of its key.
    pub const fn algorithm(self) -> Algorithm {
        match self {
            Self::Module => Algorithm::RsaSha512,
            Self::Image => Algorithm::EcdsaP256Sha256,
            _ => Algorithm::RsaSha256,
        }
    }

    /// File name of the private key: PEM, PKCS#8.
    pub fn key_file(self) -> String {
        format!("{}.key.pem", self.name())
    }

    /// File name of the certificate or public key: PEM.
    pub fn public_file(self) -> String {
        format!("{}.{}.pem", self.name(), if self.has_certificate() { "crt" } else { "pub" })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
