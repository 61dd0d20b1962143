//! Tells cargo that the embedded migrations depend on the folder, so that a new file is taken in without a touch.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
