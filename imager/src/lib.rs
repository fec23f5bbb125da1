//! Initramfs layers, UKI and installer image.
