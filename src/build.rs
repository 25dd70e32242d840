//! Tells the linker where libtorch is, so that the programs find it at run time, and which `hypot` to
//! call.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let lib =
        std::env::var_os("DEP_TCH_LIBTORCH_LIB").map(std::path::PathBuf::from).or_else(|| {
            std::env::var_os("LIBTORCH").map(|root| std::path::PathBuf::from(root).join("lib"))
        });
    // The real folder, not a link in the checkout: the program outlives the checkout.
    let Some(lib) = lib.map(|lib| lib.canonicalize().unwrap_or(lib)) else {
        println!("cargo:warning=libtorch was not found; run `make libtorch` first");
        return;
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    let target = std::env::var("TARGET").unwrap_or_default();
    if target.starts_with("x86_64") && target.ends_with("linux-gnu") {
        println!("cargo:rustc-link-arg-bins=-Wl,--wrap=hypot"); // see main.rs
    }
    // The wheel's libtorch_cpu.so names CUDA libraries that it only needs on a GPU.
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
}
