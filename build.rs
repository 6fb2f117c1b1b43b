//! Migrations are embedded in the binary: a new file in `migrations/` means a new binary.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
