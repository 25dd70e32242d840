//! What the built program requires of the system that it runs on.

use std::process::Command;

/// The highest version of a library's symbols that the program names, as `objdump` lists them.
fn highest(library: &str, symbols: &str) -> Vec<u32> {
    let versions = symbols.split(['(', ')']).filter_map(|word| word.strip_prefix(library));
    let numbers = |version: &str| version.split('.').map(|part| part.parse().unwrap()).collect();
    versions.map(numbers).max().unwrap()
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
fn the_program_runs_on_systems_of_2022() {
    let program = assert_cmd::cargo::cargo_bin!("picker");
    // It comes with the linker.
    let output = Command::new("objdump").arg("-T").arg(program).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let symbols = String::from_utf8(output.stdout).unwrap();
    // RHEL 9 has glibc 2.34 and the libstdc++ of GCC 11.
    let glibc = highest("GLIBC_", &symbols);
    assert!(glibc <= vec![2, 34], "glibc {glibc:?} is required");
    let libstdcxx = highest("GLIBCXX_", &symbols);
    assert!(libstdcxx <= vec![3, 4, 29], "libstdc++ {libstdcxx:?} is required");
}
