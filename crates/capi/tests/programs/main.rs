//! C programs with the installed library, on emulated cards at sockets: tests of every function, and the examples. They are compiled with
//! gcc and clang, linked with the shared and the static library, and run alone, under valgrind and with AddressSanitizer. What is not
//! installed is skipped with a message.

mod coverage;
mod support;

use support::{Bench, Compiler, Linking, SOURCES, has};

/// Compiles with each compiler that is installed, and runs on fresh cards.
fn run_everywhere(bench: &Bench, source: &str, sockets: &[&str]) {
    for compiler in [Compiler::Gcc, Compiler::Clang] {
        if !has(compiler.name()) {
            println!("skipped: {} is not installed; run: sudo apt-get install -y clang", compiler.name());
            continue;
        }
        for linking in [Linking::Shared, Linking::Static] {
            let program = bench.compile(compiler, linking, &[], source);
            bench.run(&program, sockets);
        }
    }
}

/// Runs under valgrind, which reports invalid accesses, and memory that nothing refers to at the end.
fn run_under_valgrind(bench: &Bench, source: &str, sockets: &[&str]) {
    if !has("valgrind") {
        println!("skipped: valgrind is not installed; run: sudo apt-get install -y valgrind");
        return;
    }
    let program = bench.compile(Compiler::Gcc, Linking::Shared, &["-g"], source);
    bench.run_under_valgrind(&program, sockets);
}

/// Compiles the C program, though not the library, with AddressSanitizer, which also checks what the library does with `malloc`.
fn run_with_sanitizer(bench: &Bench, source: &str, sockets: &[&str]) {
    let options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"];
    let program = bench.compile(Compiler::Gcc, Linking::Shared, &options, source);
    bench.run(&program, sockets);
}

macro_rules! programs {
    ($($name:ident: $source:literal on $cards:ident [$($socket:literal),+];)*) => {$(
        mod $name {
            use crate::support::Bench;

            #[test]
            fn runs() {
                crate::run_everywhere(&Bench::$cards(), $source, &[$($socket),+]);
            }

            #[test]
            fn runs_under_valgrind() {
                crate::run_under_valgrind(&Bench::$cards(), $source, &[$($socket),+]);
            }

            #[test]
            fn runs_with_address_sanitizer() {
                crate::run_with_sanitizer(&Bench::$cards(), $source, &[$($socket),+]);
            }
        }
    )*};
}

programs! {
    memory: "tests/programs/memory.c" on memory ["a", "b"];
    streams: "tests/programs/streams.c" on streams ["a"];
    msm: "tests/programs/msm.c" on msm ["a", "b"];
    threads: "tests/programs/threads.c" on memory ["a"];
    diagnosis: "tests/programs/diagnosis.c" on memory ["a"];
    ends: "tests/programs/ends.c" on memory ["a"];
    random_on_memory: "tests/programs/random.c" on memory ["a", "b"];
    random_on_msm: "tests/programs/random.c" on msm ["a", "b"];
    example_loopback: "examples/loopback.c" on memory ["a"];
    example_program: "examples/program.c" on memory ["a"];
    example_event_loop: "examples/event_loop.c" on memory ["a"];
    example_stream: "examples/stream.c" on streams ["a"];
    example_msm: "examples/msm.c" on msm ["a"];
}

#[test]
fn every_source_is_run() {
    let this = include_str!("main.rs");
    for directory in SOURCES {
        for entry in std::fs::read_dir(support::root().join(directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".c") || this.contains(&format!("\"{directory}/{name}\"")), "{name}");
        }
    }
}

#[test]
fn the_readmes_program_works() {
    let readme = std::fs::read_to_string(support::root().join("../../README.md")).unwrap();
    let program =
        readme.split("```c\n").nth(1).expect("the README has a C program").split("```").next().unwrap();
    let bench = Bench::memory();
    let source = bench.folder().join("readme.c");
    std::fs::write(&source, program).unwrap();
    for linking in [Linking::Shared, Linking::Static] {
        bench.run(&bench.compile(Compiler::Gcc, linking, &[], source.to_str().unwrap()), &["a"]);
    }
}

#[test]
fn a_plugin_may_close_the_library_while_a_card_is_open() {
    let bench = Bench::memory();
    // The program only looks functions up, so it is not linked with the library.
    let program =
        bench.compile(Compiler::Gcc, Linking::Shared, &["-Wl,--as-needed"], "tests/programs/plugin.c");
    bench.run(&program, &["a"]);
    bench.run_under_valgrind(&program, &["a"]);
}

#[test]
fn the_generators_multiple_is_the_generator() {
    use ark_ec::AffineRepr;
    let bench = Bench::msm();
    let program = bench.compile(Compiler::Gcc, Linking::Shared, &[], "tests/programs/msm.c");
    let output = bench.run(&program, &["a", "b"]);
    let results: Vec<&str> = output.lines().filter_map(|line| line.strip_prefix("result ")).collect();
    assert_eq!(results.len(), 2, "of allocated and of registered points");
    for hex in results {
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        let bytes: [u8; 96] = std::array::from_fn(byte);
        let point = xdma::msm::curve::arkworks::result_to_point(&bytes).unwrap();
        assert_eq!(point, ark_bn254::G1Affine::generator());
    }
}

#[test]
fn the_header_is_valid_cpp() {
    let bench = Bench::memory();
    let source = bench.folder().join("header.cpp");
    std::fs::write(&source, "#include <xdma.h>\nint main() { return xdma_version() == nullptr; }\n").unwrap();
    bench.run(&bench.compile(Compiler::Cpp, Linking::Shared, &[], source.to_str().unwrap()), &["a"]);
}

#[test]
fn the_shared_library_exports_only_versioned_functions() {
    let bench = Bench::memory();
    let symbols =
        bench.output("nm", &["--dynamic", "--defined-only", "--with-symbol-versions", "lib/libxdma.so"]);
    let names: Vec<&str> = symbols.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    assert!(names.len() > 60, "{symbols}");
    for name in names {
        assert!(name == "XDMA_0.1" || name.starts_with("xdma_") && name.ends_with("@@XDMA_0.1"), "{name}");
    }
    let dynamic = bench.output("readelf", &["--dynamic", "lib/libxdma.so"]);
    assert!(dynamic.contains("[libxdma.so.0]"), "{dynamic}");
}

#[test]
fn the_manual_page_has_no_warnings() {
    let bench = Bench::memory();
    for page in ["share/man/man3/libxdma.3", "share/man/man3/xdma_submit.3"] {
        if !has("groff") {
            println!("skipped: groff is not installed; run: sudo apt-get install -y groff");
            return;
        }
        assert_eq!(bench.errors("groff", &["-man", "-ww", "-z", page]), "");
    }
    if has("mandoc") {
        bench.output("mandoc", &["-T", "lint", "-W", "warning", "share/man/man3/libxdma.3"]);
    }
}
