//! `/bin/installer` of the testbed's installer image.

fn main() {
    eprintln!("This image was built on the testbed base. It is not Talos and cannot install anything.");
    eprintln!("For a Talos installer, build with --base and Talos's imager and installer-base images.");
    std::process::exit(1);
}
