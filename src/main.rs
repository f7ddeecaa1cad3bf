//! The `portcullis` command: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    portcullis::cli::main()
}
