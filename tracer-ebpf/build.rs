//! How the programs are linked, which is where their code is made.

fn main() {
    // Else every array that is set to zero, of any size, costs a call of a function that writes byte by byte.
    println!("cargo:rustc-link-arg-bins=--disable-expand-memcpy-in-order");
    println!("cargo:rerun-if-changed=build.rs");
}
