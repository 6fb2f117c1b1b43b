//! The program `mosaic`.

fn main() -> std::process::ExitCode {
    mosaic::cli::main()
}
