//! `/bin/installer` of the testbed's installer image.

fn main() {
    eprintln!("This image was put together on the testbed base. It is not Talos and installs nothing.");
    eprintln!("Build it with --base and Talos's own imager and installer-base images to get one that does.");
    std::process::exit(1);
}
